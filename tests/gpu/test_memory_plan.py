"""What `rlhf plan` says of an 8B model is what a GPU measures, within a fifth."""

from pathlib import Path

import pytest
import torch

from tests.benchmarks.gpu import run
from tests.benchmarks.gpu_cases import CASES, Place
from tests.benchmarks.random_base import write_base

_NEEDED = 20 << 30

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo", "ppo with a value head"])
def test_a_stage_at_8b_takes_within_a_fifth_of_what_is_planned(tmp_path: Path, name: str):
    if torch.cuda.get_device_properties(0).total_memory < _NEEDED:
        pytest.skip("the GPU has less than 20 GiB")
    place = Place(tmp_path, "llama3-8b")
    write_base(place.base, "llama3-8b")
    [case] = [case for case in CASES if case.name == name]
    found = run(case, place)
    assert "failed" not in found, found
    phases = {key: value for key, value in found.items() if isinstance(value, dict)}
    assert phases
    for phase, seen in phases.items():
        assert seen["peak_over_plan"] == pytest.approx(1, abs=0.2), phase
