"""rlhf doctor tells what works here by trying it, and what is missing with the way to get it."""

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from rlhf import cli
from rlhf.model.checks.kernels import kernel_error

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("storage", ["nf4", "int8"])
def test_the_kernels_multiply_and_differentiate_by_the_weight_that_is_stored(storage):
    # int8 rounds the activations too where a GPU multiplies
    assert kernel_error(storage) < (0.03 if torch.cuda.is_available() else 1e-5)


def test_a_kernel_that_computes_something_else_is_noticed(monkeypatch):
    right = Linear4bit.forward
    monkeypatch.setattr(Linear4bit, "forward", lambda self, x: 1.2 * right(self, x))
    assert kernel_error("nf4") == pytest.approx(0.2, rel=1e-3)


def test_the_doctor_reports_this_machine_on_stdout(capsys):
    assert cli.main(["doctor"]) in (0, 1)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "4-bit" in lines
    assert "cores" in lines["machine"]
    assert f"torch {torch.__version__}" in lines["versions"]


def test_what_is_missing_is_said_with_the_way_to_get_it(capsys, monkeypatch):
    wanted = ["no-such-library>=1", "torch<1", 'other>=1; extra == "never"', "pytest"]
    monkeypatch.setattr("rlhf.apps.doctor.requires", lambda _: wanted)
    monkeypatch.setattr("rlhf.apps.doctor.kernel_error", lambda _: 0.5)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    missing = [line.split(maxsplit=1)[1] for line in out.splitlines() if line[:7] == "missing"]
    assert missing[0] == "no-such-library: run `pip install 'no-such-library>=1'`"
    assert missing[1].startswith("torch is ")
    assert "run `pip install 'torch<1'`" in missing[1]
    assert "4-bit kernels" in missing[2]
    assert "8-bit kernels" in missing[3]
    assert len(missing) == 4
    assert out.count("give wrong results") == 2


def test_a_kernel_that_is_not_there_is_reported(capsys, monkeypatch):
    def fail(_: str) -> float:
        raise RuntimeError("no kernel\nfor this device")

    monkeypatch.setattr("rlhf.apps.doctor.kernel_error", fail)
    assert cli.main(["doctor"]) == 1
    assert "fail (no kernel for this device)" in capsys.readouterr().out
