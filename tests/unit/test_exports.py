"""The public names: sorted, true, loaded lazily; telemetry off unless the user wants it."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlhf
from rlhf import runs
from rlhf.ppo import objectives

ROOT = Path(__file__).parents[2]


def fresh(code: str, **environment: str) -> str:
    """What ``code`` prints in a new process."""
    inherited = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k and "GRADIO" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_public_names_are_sorted_and_true():
    assert rlhf.__all__ == sorted(rlhf.__all__)
    for name in rlhf.__all__:
        assert getattr(rlhf, name).__name__ == name
    assert dir(rlhf) == sorted([*rlhf.__all__, "__version__"])


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = rlhf.Nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_loads_nothing_and_telemetry_is_off():
    loaded = fresh(
        "import os, sys, rlhf;"
        "print([m for m in ('torch', 'pydantic', 'transformers') if m in sys.modules],"
        "os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['GRADIO_ANALYTICS_ENABLED'])"
    )
    assert loaded == "[] 1 False"


def test_who_wants_telemetry_keeps_it():
    kept = fresh(
        "import os, rlhf; print(os.environ['HF_HUB_DISABLE_TELEMETRY'])",
        HF_HUB_DISABLE_TELEMETRY="0",
    )
    assert kept == "0"


SIGNATURES = {
    objectives.kl_penalized_rewards: "scores logprobs ref_logprobs mask * kl_coef",
    objectives.gae: "rewards values mask * gamma lam",
    objectives.clipped_policy_loss: "logprobs old_logprobs advantages mask * clip_range",
    objectives.clipped_value_loss: "values old_values returns mask * clip_range",
    objectives.whiten: "x mask",
    objectives.masked_mean: "x mask",
    runs.open_run: "path stage",
    rlhf.load_policies: "paths",
    rlhf.load_scorer: "run",
    rlhf.settle: "comparison votes",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda f: f.__name__)
def test_a_public_signature_may_only_grow(function):
    parameters = inspect.signature(function).parameters.values()
    by_place = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    place, _, name = SIGNATURES[function].partition("*")
    assert by_place[: len(place.split())] == place.split()
    assert by_name >= set(name.split())
    grown = [p for p in parameters if p.name not in SIGNATURES[function].split()]
    assert all(p.default is not p.empty for p in grown), "what is added has a default"
