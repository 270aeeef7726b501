"""Memory and speed of every stage on models of real shapes with random weights; JSON on stdout.

    PYTHONPATH=. python tests/benchmarks/gpu.py --work WORK > gpu.json

Each stage as configs/SHAPE has it, with and without each optimisation: the most memory and the
tokens per second of every phase, beside what `rlhf plan` says and beside the roofline. It needs a
GPU and no network. With `--smoke` it needs no GPU either: all of it runs on a small shape, whose
bytes are counted and whose times mean nothing. `--anchor trl112_ppo.py --trl112 FOLDER` times
TRL 1.12's PPO besides, where four copies of a model fit.
"""

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.memory.phases import phases
from rlhf.memory.shapes import read_shape
from rlhf.model.load import compute_dtype
from tests.benchmarks.common import report
from tests.benchmarks.gpu_cases import CASES, SMALL, Case, Place, enter, fastest, prepare, tokens
from tests.benchmarks.meter import Meter
from tests.benchmarks.random_base import SHAPES, random_base, write_base
from tests.benchmarks.roofline import measured_peaks, peaks

_FOUR_COPIES_FIT = 2e9
"""Parameters of a model up to which the anchor is run."""


def main() -> None:
    """Run every case, each in a process of its own, and print what was found."""
    given = _arguments()
    if given.case is not None:
        [case] = [case for case in CASES if case.name == given.case]
        found = run(case, Place(given.work, given.shapes[0]))
        sys.stdout.write(json.dumps(found) + "\n")
        return
    cases: list[dict[str, Any]] = []
    anchors: list[dict[str, Any]] = []
    for shape in given.shapes:
        place = Place(given.work, shape)
        write_base(place.base, shape)
        for case in CASES:
            if any(word in case.name for word in given.only):
                cases.append(run(case, place) if given.smoke else _in_own_process(case, place))
                sys.stderr.write(json.dumps(cases[-1]) + "\n")
        if given.anchor is not None:
            anchors.append(_anchor(given, place))
    report(
        {
            "benchmark": "gpu",
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "dtype": str(compute_dtype()),
            "peaks": [asdict(peak) for peak in dict.fromkeys((peaks(), measured_peaks()))],
            "cases": cases,
            "anchors": anchors,
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory and speed of every stage on a GPU.")
    parser.add_argument("--work", type=Path, required=True, help="a folder for runs; may be empty")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["qwen3-0.6b", "llama3-8b"])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="cases with a WORD")
    parser.add_argument("--smoke", action="store_true", help="on a small shape, in this process")
    parser.add_argument("--anchor", type=Path, help="a program that times TRL 1.12's PPO")
    parser.add_argument("--trl112", type=Path, help="where that TRL is installed")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.smoke:
        given.shapes = [SMALL]
    elif not torch.cuda.is_available():
        parser.exit(1, "gpu.py: there is no GPU that this torch can use; --smoke needs none\n")
    if (given.anchor is None) != (given.trl112 is None):
        parser.error("--anchor and --trl112 go together")
    return given


def run(case: Case, place: Place) -> dict[str, Any]:
    """What each phase of a case took, what was planned, and the fastest it could have been."""
    config, setup = prepare(case, place)
    shutil.rmtree(config.out, ignore_errors=True)
    meter = Meter()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(patch("rlhf.model.start.load_base", random_base))
        # the responses that a run shows are not what is measured
        stack.enter_context(patch("rlhf.training.samples._LONGEST", 1))
        _start_from(case, place)
        enter(stack, case.other)
        stack.enter_context(meter.watching())
        try:
            import_module(f"rlhf.stages.{case.stage}").run(config)
        except torch.OutOfMemoryError as error:
            shutil.rmtree(f"{config.out}.partial", ignore_errors=True)
            return {"shape": place.shape, "case": case.name, "failed": str(error).splitlines()[0]}
    gc.collect()
    planned = {phase.name: phase.total for phase in phases(config, setup)}
    count = tokens(config, meter.steps)
    bound = fastest(case, config, setup, peaks(), meter.steps)
    return {"shape": place.shape, "case": case.name} | {
        phase: {
            "peak_bytes": peak,
            "planned_bytes": planned[phase],
            "peak_over_plan": round(peak / planned[phase], 3),
            "seconds": round(meter.seconds[phase], 4),
            "tokens_per_s": round(count[phase] / meter.seconds[phase], 1),
            "share_of_roofline": round(bound[phase] / meter.seconds[phase], 4),
        }
        for phase, peak in meter.peaks.items()
    }


def _start_from(case: Case, place: Place) -> None:
    """The runs that a stage starts from, made on the way where they are not there."""
    for stage in {"sft": [], "ppo": ["sft", "reward"]}.get(case.stage, ["sft"]):
        config, _ = prepare(Case(stage, stage), place)
        if not Path(config.out).exists():
            import_module(f"rlhf.stages.{stage}").run(config)


def _in_own_process(case: Case, place: Place) -> dict[str, Any]:
    """A case with the whole GPU to itself, whatever became of the one before."""
    command = [__file__, "--work", str(place.work), "--shapes", place.shape, "--case", case.name]
    return _json_of(command, Path(__file__).parents[2]) | {"shape": place.shape, "case": case.name}


def _json_of(command: list[str], path: Path) -> dict[str, Any]:
    """What a program prints in its last line, or why it did not."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": done.stderr.strip()[-2000:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _anchor(given: argparse.Namespace, place: Place) -> dict[str, Any]:
    """TRL's PPO on the same shape, lengths and batches, with weights on disk as it wants them."""
    if read_shape(str(place.base)).parameters > _FOUR_COPIES_FIT:
        return {"shape": place.shape, "failed": "four copies of it are not tried"}
    config, _ = prepare(Case("ppo", "ppo"), place)
    model = place.work / place.shape / "anchor"
    if not model.exists():
        shutil.copytree(place.base, model)
        described = AutoConfig.from_pretrained(model)
        AutoModelForCausalLM.from_config(described, dtype=compute_dtype()).save_pretrained(model)
    keys = vars(config)
    flags = {
        "updates": 2, "batch": keys["rollout_batch_size"], "epochs": keys["num_ppo_epochs"],
        "micro": keys["per_device_train_batch_size"], "response": keys["max_new_tokens"],
        "prompt": config.data.max_length - keys["max_new_tokens"],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [str(given.anchor), str(model), "--nf4", *words]
    return {"shape": place.shape} | _json_of(command, given.trl112)


if __name__ == "__main__":
    main()
