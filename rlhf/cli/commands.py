"""What each command does: import its stage, run it, print the result."""

import argparse
import json
import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf import processes
from rlhf.errors import ConfigError

if TYPE_CHECKING:
    from rlhf.config import RunConfig

_SHOWN = re.compile("^(eval_.*|loss|objective/(scores|kl)|response_length)$")


def train(options: argparse.Namespace) -> int:
    """Run a training stage by its config."""
    from rlhf.config import load_stage
    from rlhf.training.launch import check_launch

    check_launch()
    given = load_stage(options.command, options.config, options.overrides)
    # Libraries print their logs to stdout, which is for the result.
    with _with_folder(given, options) as config, redirect_stdout(sys.stderr):
        stage = import_module(f"rlhf.stages.{options.command.replace('-', '_')}")
        if processes.is_first():
            _announce(options.command)
        path = stage.run(config, resume=options.resume)
    if processes.count() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
    if processes.is_first():
        _summarise(path)
        print(path)
    return 0


@contextmanager
def _with_folder(config: "RunConfig", options: argparse.Namespace) -> Generator["RunConfig"]:
    """``config`` with a folder to write; where it names none, the date does.

    Raises:
        ConfigError: a run is resumed, or several processes train one, and nobody says which.
    """
    from rlhf.runs import name_by_date

    if config.out:
        yield config
    elif options.resume:
        raise ConfigError("name the run to go on with, as out=FOLDER")
    elif processes.count() > 1:
        raise ConfigError("name the folder that the processes write together, as out=FOLDER")
    else:
        with name_by_date(options.command) as out:
            options.out = str(out)
            yield replace(config, out=str(out))


def _announce(stage: str) -> None:
    """Where this machine computes, and in what."""
    from rlhf.model.load import compute_dtype
    from rlhf.provenance import device

    dtype = str(compute_dtype()).removeprefix("torch.")
    print(f"{stage} on {device()}, in {dtype} unless model.dtype says otherwise", file=sys.stderr)


def _summarise(path: Path) -> None:
    """What a finished run came to, in one line on stderr."""
    from rlhf.provenance import memory, outcome
    from rlhf.runs import open_run

    run = open_run(path)
    found = outcome(run.read_metrics())
    measured = [f"{name} {value:.4g}" for name, value in found.items() if _SHOWN.match(name)]
    words = [f"{run.stage} finished in {run.facts['wall_seconds']:.0f} s", memory(run.facts)]
    print("; ".join([*words, *measured]), file=sys.stderr)


def _new(options: argparse.Namespace) -> int:
    from rlhf.config import starter

    path = options.file or Path(f"{options.stage}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(starter(options.stage))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already; name another file") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name another") from error
    print(path)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from rlhf.apps.doctor import run

    diagnosis = run()
    for name, value in diagnosis.found.items():
        print(f"{name:<15}{value}")
    for one in diagnosis.missing:
        print(f"{'missing':<15}{one}")
    return 1 if diagnosis.missing else 0


def _plan(options: argparse.Namespace) -> int:
    from rlhf.config import build
    from rlhf.memory.plan import PlanOptions, facts, run, table

    given = _given(options)
    as_json = given.pop("json")
    plan = run(build(PlanOptions, given, where="command line"))
    print(json.dumps(facts(plan), indent=1) if as_json else table(plan))
    return 1 if plan.fits is False else 0


def _runs(options: argparse.Namespace) -> int:
    from rlhf.runs import list_runs, list_unfinished, ordered, summary

    runs = ordered([summary(run) for run in list_runs(options.root)], options.sort)
    unfinished = list_unfinished(options.root)
    if options.json:
        died = [{"path": str(path), "finished": None} for path in unfinished]
        print(json.dumps([*(run.to_json() for run in runs), *died], indent=1))
        return 0
    if not runs and not unfinished:
        print(f"there is no run in {options.root}; name another folder", file=sys.stderr)
    for run in runs:
        print(run)
    for path in unfinished:
        print(f"{path}  unfinished: being written, or to be finished with --resume")
    return 0


def _demo(options: argparse.Namespace) -> int:
    started = time.monotonic()  # importing what trains takes seconds too
    from rlhf.apps.demo import DemoOptions, run

    demo = DemoOptions(
        out=options.out,
        seed=options.seed,
        raters=options.raters,
        resume=options.resume,
        port=options.port,
    )
    run(demo, _tell, started)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rlhf.apps.evaluate_reward import EvaluateOptions, run
    from rlhf.evaluate.reward import table

    found = run(
        EvaluateOptions(
            run=options.of,
            data=tuple(options.data),
            format=options.format,
            cluster=tuple(options.cluster),
        )
    )
    print(table(found))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from rlhf.apps.compare import CompareOptions, run
    from rlhf.config import build

    print(run(build(CompareOptions, _given(options), where="command line")))
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line; the rest has its default where the options live."""
    return {k: v for k, v in vars(options).items() if v is not None and k != "command"}


def _chat(options: argparse.Namespace) -> int:
    from rlhf.apps.chat import ChatOptions, run
    from rlhf.config import build

    given = _given(options)
    given["run"] = given.pop("of")
    run(build(ChatOptions, given, where="command line"))
    return 0


def _collect(options: argparse.Namespace) -> int:
    from rlhf.apps.compare import collect

    print(collect(options.of, wait=options.wait))
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)


COMMANDS = {
    "evaluate": _evaluate,
    "compare": _compare,
    "chat": _chat,
    "collect": _collect,
    "demo": _demo,
    "doctor": _doctor,
    "new": _new,
    "plan": _plan,
    "runs": _runs,
}
