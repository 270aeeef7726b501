"""The program that measures a GPU runs from end to end without one, and bears the plan out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.gpu_cases import CASES

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_case_is_measured_within_a_quarter_of_the_plan(tmp_path: Path):
    """Counted bytes of whole stages; the plan has every row full, so it is the higher one."""
    done = kit("--smoke", "--work", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["device"] == "cpu"
    assert [case["case"] for case in found["cases"]] == [case.name for case in CASES]
    by_name = {case.pop("case"): case for case in found["cases"]}
    for name, case in by_name.items():
        del case["shape"]
        phases = {"sampling", "scoring", "training"} if name.startswith("ppo") else {"training"}
        assert set(case) == phases, name
        for phase, seen in case.items():
            assert seen["peak_over_plan"] == pytest.approx(0.9, abs=0.15), (name, phase)
            assert seen["tokens_per_s"] > 0
            assert 0 < seen["share_of_roofline"] < 1
    # what is optimised is seen to be saved
    peak = {name: case["training"]["peak_bytes"] for name, case in by_name.items()}
    for stage in ("sft", "reward", "dpo", "ppo"):
        assert peak[stage] < 0.9 * peak[f"{stage} without checkpointing"]
    assert peak["ppo with a value head"] < peak["ppo"]


def test_without_a_gpu_it_says_so(tmp_path: Path):
    done = kit("--work", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "gpu.py: there is no GPU that this torch can use; --smoke needs none\n"
