"""The command line, thin: parse, then import, then run.

Nothing heavier than argparse is imported before a command is known. Results go to stdout and
everything else to stderr; 0 is success, 1 a mistake that the user can put right, 2 a command line
that makes no sense.
"""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Never

from rlhf import __version__
from rlhf.errors import RLHFError

STAGES = {
    "pretrain": "Train a base from scratch, or further, on text.",
    "sft": "Fine-tune a base on demonstrations.",
    "reward": "Fit a reward model to preferences.",
    "dpo": "Align a policy with preferences, directly.",
    "ppo": "Align a policy with a reward model.",
}

_COMPARE = """\
examples:
  rlhf compare runs/sft runs/ppo --prompts prompts.jsonl --judge runs/reward
  rlhf compare runs/sft runs/dpo --prompts prompts.jsonl --judge mymodule:myscore --num-samples 4
  rlhf compare runs/sft runs/ppo --prompts prompts.jsonl --judge people \\
      --server http://127.0.0.1:7860 --user ADMIN --no-wait      and later: rlhf collect
"""
_LOOP = """\
the whole loop, by hand:
  rlhf sft configs/demo/sft.yaml                  demonstrations -> a policy
  rlhf compare RUN RUN --prompts FILE --judge people    people are to judge its responses
  rlhf label serve                                they vote in a browser
  rlhf label export CAMPAIGN FOLDER               their votes -> preferences
  rlhf reward configs/demo/reward.yaml            preferences -> a reward model
  rlhf ppo configs/demo/ppo.yaml kl_coef=0.1      policy + reward model -> an aligned policy
  rlhf compare RUN RUN --prompts FILE --judge RUN       side by side, with win rates
all of it on a small sandbox with simulated raters, in minutes on a CPU:
  rlhf demo

`rlhf COMMAND --help` explains a command; for a stage it lists every key of its config.
"""

_STAGE_EXAMPLES = """\
examples:
  rlhf {0} configs/demo/{0}.yaml
  rlhf {0} configs/demo/{0}.yaml out=runs/mine seed=1 data.train.0.path=mine.jsonl
  rlhf {0} configs/demo/{0}.yaml --resume             after it was interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Help as it was written, errors of one line, and for a stage every key of its config."""

    def __init__(self, *, stage: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )
        self.stage = stage

    def error(self, message: str) -> Never:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def format_help(self) -> str:
        if self.stage is None:
            return super().format_help()
        from rlhf.config import CONFIG_OF
        from rlhf.manual import manual

        return (
            f"{super().format_help()}\n"
            "keys of the config (those without a note are as in Transformers' TrainingArguments):\n"
            f"{manual(CONFIG_OF[self.stage])}\n"
        )


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = _Parser(
        prog="rlhf",
        description="From votes in a browser to an aligned policy, on one 4-bit base.",
        epilog=_LOOP,
    )
    top.add_argument("--version", action="version", version=f"rlhf {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )

    def command(name: str, summary: str, epilog: str = "", **kwargs: Any) -> _Parser:  # noqa: ANN401
        return commands.add_parser(name, help=summary, description=summary, epilog=epilog, **kwargs)

    for stage, summary in STAGES.items():
        sub = command(stage, summary, _STAGE_EXAMPLES.format(stage), stage=stage)
        sub.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file; see configs/")
        sub.add_argument("overrides", nargs="*", metavar="key=value", help="change a key of it")
        sub.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_judging(command)
    demo = command("demo", "Run the whole loop on a small sandbox, in minutes on a CPU.")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--raters", choices=("simulated", "human"), default="simulated", help="who votes"
    )
    demo.add_argument("--port", type=int, default=7860, help="where people rate")
    demo.add_argument("--resume", action="store_true", help="go on where it was interrupted")
    command("doctor", "Say what this machine can do, and what is missing.")
    runs = command("runs", "List the runs in a folder.")
    runs.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="default: runs")
    # Everything after it is for labeling_ui, which this package never imports: see main().
    command("label", "Gather votes: serve, add-user, import, export, status.", add_help=False)
    return top


def _add_judging(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that look at what was trained."""
    audit = command(
        "evaluate",
        "Audit a reward run on pairs it never saw.",
        "examples:\n  rlhf evaluate reward runs/reward\n"
        "  rlhf evaluate reward runs/reward --data others.jsonl\n",
    )
    audit.add_argument("what", choices=("reward",), help="what to audit")
    audit.add_argument("of", type=Path, metavar="RUN", help="a finished reward run")
    audit.add_argument("--data", nargs="+", default=[], metavar="FILE", help="other pairs")
    audit.add_argument("--format", default="auto", help="of these files; see `rlhf reward --help`")
    audit.add_argument(
        "--cluster", nargs="+", default=[], metavar="COLUMN", help="whose pairs are dependent"
    )
    compare = command("compare", "Put policies side by side on the same prompts.", _COMPARE)
    compare.add_argument("policies", nargs="+", metavar="RUN", help="run folders or bases")
    compare.add_argument("--prompts", required=True, metavar="FILE", help="file or hub name")
    compare.add_argument("--judge", required=True, help="a reward run, module:function or people")
    compare.add_argument("--out", default="runs/compare", help="default: runs/compare")
    compare.add_argument("--reference", metavar="RUN", help="what KL and gains are measured from")
    compare.add_argument("--split", help="of a dataset")
    compare.add_argument("--limit", type=int, help="use the first so many prompts")
    compare.add_argument("--num-samples", type=int, help="responses to each prompt; default 1")
    compare.add_argument("--max-new-tokens", type=int, help="longest response; default 128")
    compare.add_argument("--temperature", type=float, help="of sampling; default 1")
    compare.add_argument("--seed", type=int, help="default 0")
    compare.add_argument("--server", metavar="URL", help="where people are asked: rlhf label serve")
    compare.add_argument("--user", help="an admin there; the password is asked for")
    compare.add_argument("--campaign", help="the name that people see")
    compare.add_argument("--overlap", type=int, help="raters per comparison; default 1")
    compare.add_argument("--no-wait", dest="wait", action="store_false", help="collect votes later")
    collect = command("collect", "Take in the votes of a comparison that people judge.")
    collect.add_argument("of", type=Path, metavar="RUN", help="a compare run")
    collect.add_argument("--no-wait", dest="wait", action="store_false", help="take what is there")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["label"]:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "labeling_ui", *arguments[1:]])
    options = _parse(arguments)
    _quieten()
    try:
        return _COMMANDS.get(options.command, _train)(options)
    except RLHFError as error:
        print(f"rlhf {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nrlhf {options.command}: interrupted{_way_on(arguments, options)}", file=sys.stderr
        )
        return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Overrides may stand anywhere, also after an option, where argparse would not take them."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    strange = [a for a in rest if a.startswith("-") or "=" not in a]
    if strange or (rest and options.command not in STAGES):
        words = " ".join(strange or rest)
        top.exit(
            2,
            f"rlhf {options.command}: {words!r} is not understood; "
            f"see `rlhf {options.command} --help`\n",
        )
    if rest:
        options.overrides += rest
    return options


def _train(options: argparse.Namespace) -> int:
    from rlhf.config import CONFIG_OF, load_config

    config = load_config(CONFIG_OF[options.command], options.config, options.overrides)
    # Libraries print their logs to stdout, which is for the result.
    with redirect_stdout(sys.stderr):
        stage = import_module(f"rlhf.stages.{options.command}")
        path = stage.run(config, resume=options.resume)
    _summarise(path)
    print(path)
    return 0


def _summarise(path: Path) -> None:
    """What a finished run came to, in one line on stderr."""
    from rlhf.runs import open_run

    run = open_run(path)
    last: dict[str, Any] = {}
    for line in run.read_metrics():
        last |= line
    measured = [f"{k} {v:.4g}" for k, v in last.items() if k.startswith("eval_") and v is not None]
    memory = ", ".join(f"{v} MiB {k}" for k, v in run.facts["peak_memory_mb"].items())
    words = [f"{run.stage} finished in {run.facts['wall_seconds']:.0f} s", memory, *measured[:6]]
    print("; ".join(words), file=sys.stderr)


def _doctor(_: argparse.Namespace) -> int:
    from rlhf.stages.doctor import run

    diagnosis = run()
    for name, value in diagnosis.found.items():
        print(f"{name:<15}{value}")
    for one in diagnosis.missing:
        print(f"{'missing':<15}{one}")
    return 1 if diagnosis.missing else 0


def _runs(options: argparse.Namespace) -> int:
    from rlhf.runs import list_runs, list_unfinished

    for run in list_runs(options.root):
        facts = run.facts
        print(f"{run.path}  {run.stage}  {facts['finished'][:16]}  {facts['wall_seconds']:.0f} s")
    for path in list_unfinished(options.root):
        print(f"{path}  unfinished: being written, or to be finished with --resume")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from rlhf.stages.demo import DemoOptions, run

    demo = DemoOptions(
        out=options.out,
        seed=options.seed,
        raters=options.raters,
        resume=options.resume,
        port=options.port,
    )
    run(demo, _tell)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rlhf.evaluate.reward import table
    from rlhf.stages.evaluate import EvaluateOptions, run

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
    from rlhf.config import build
    from rlhf.stages.compare import CompareOptions, run

    given = {k: v for k, v in vars(options).items() if v is not None and k != "command"}
    print(run(build(CompareOptions, given, where="command line")))
    return 0


def _collect(options: argparse.Namespace) -> int:
    from rlhf.stages.compare import collect

    print(collect(options.of, wait=options.wait))
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)


_COMMANDS = {
    "evaluate": _evaluate,
    "compare": _compare,
    "collect": _collect,
    "demo": _demo,
    "doctor": _doctor,
    "runs": _runs,
}


def _quieten() -> None:
    """Keep what libraries say to developers off the screen, unless it is asked for."""
    for name, value in {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _way_on(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """How to go on after an interruption."""
    if options.command in STAGES:
        from rlhf.config import CONFIG_OF, load_config
        from rlhf.runs import can_resume

        config = load_config(CONFIG_OF[options.command], options.config, options.overrides)
        if not can_resume(config.out):
            return " before the first checkpoint; nothing was kept"
    elif options.command != "demo":
        return ""
    again = [a for a in arguments if a != "--resume"]
    return f"; go on with `{shlex.join(['rlhf', *again, '--resume'])}`"
