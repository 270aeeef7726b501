"""The public names: sorted, true, loaded lazily; telemetry off unless the user wants it."""

import importlib.util
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
    """What ``code`` prints in a new process, errors too."""
    ours = ("TELEMETRY", "GRADIO", "KERNELS")
    inherited = {k: v for k, v in os.environ.items() if not any(name in k for name in ours)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
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


def test_importing_bitsandbytes_fetches_no_kernel_and_says_nothing_of_it():
    """It would, or would say so, on CPUs with AVX512-BF16: checked as far as this CPU goes."""
    found = fresh("import os, rlhf, bitsandbytes; print(os.environ['LOCAL_KERNELS'])")
    kernel, instead = found.split("=")
    spec = importlib.util.find_spec("bitsandbytes.backends.cpu.ops")
    assert spec is not None
    assert spec.origin is not None
    assert f'"{kernel}"' in Path(spec.origin).read_text()
    assert instead == os.devnull


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
