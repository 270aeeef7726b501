"""The commands, their options and what ``--help`` says; nothing here imports more than argparse."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from rlhf import __version__

STAGES = {
    "pretrain": "Train a base from scratch, or further, on text.",
    "sft": "Fine-tune a base on demonstrations.",
    "reward": "Fit a reward model to preferences.",
    "dpo": "Align a policy with preferences, directly.",
    "kto": "Align a policy with good and bad responses, directly.",
    "ppo": "Align a policy with a reward model.",
    "rloo": "The same by REINFORCE leave-one-out.",
    "grpo": "The same by group relative policy optimization.",
    "online-dpo": "The same by DPO on the policy's own pairs.",
    "best-of-n": "Keep the best of several responses, to imitate.",
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

_PLAN = """\
examples:
  rlhf plan configs/llama3-8b/ppo.yaml --gpu-memory 24
  rlhf plan configs/qwen3-0.6b/sft.yaml per_device_train_batch_size=16
  rlhf plan configs/llama3-8b/ppo.yaml --base mine/config.json --json
"""
_STAGE_EXAMPLES = """\
examples:
  rlhf {0} configs/demo/{0}.yaml
  rlhf {0} configs/demo/{0}.yaml out=runs/mine seed=1 data.train=mine.jsonl
  rlhf {0} configs/demo/{0}.yaml --resume             after it was interrupted
"""
_SHARED_STAGES = ("pretrain", "sft", "reward", "dpo", "ppo")
_ON_SEVERAL_GPUS = """\
on several GPUs (each key that says per_device is for each of them):
  accelerate launch --config_file configs/accelerate/ddp.yaml -m rlhf {0} configs/demo/{0}.yaml
"""


_SORTS = ("finished", "path", "stage", "seconds", "loss", "accuracy", "score", "kl", "length")
"""What ``rlhf runs`` sorts by."""


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
        from rlhf.config import CONFIG_OF, minimal
        from rlhf.config.config_help import manual

        shortest = f"examples:\n  rlhf {minimal(self.stage)}\n"
        text = super().format_help().replace("examples:\n", shortest)
        return (
            f"{text}\n"
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
        examples = _STAGE_EXAMPLES + _ON_SEVERAL_GPUS * (stage in _SHARED_STAGES)
        sub = command(stage, summary, examples.format(stage), stage=stage)
        sub.add_argument("config", nargs="?", metavar="CONFIG", help="a YAML file; see configs/")
        sub.add_argument(
            "overrides", nargs="*", metavar="key=value", help="change a key, or ~key: its default"
        )
        sub.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
        sub.set_defaults(out="")
    new = command("new", "Write a config to start from, with every key and what it means.")
    new.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    new.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: STAGE.yaml")
    _add_plan(command)
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
    runs = command("runs", "List the runs in a folder, with what they came to.")
    runs.add_argument("root", type=Path, nargs="?", default=Path("runs"), help="default: runs")
    runs.add_argument(
        "--sort", choices=_SORTS, default="finished", metavar="BY", help=", ".join(_SORTS)
    )
    runs.add_argument("--json", action="store_true", help="for programs")
    # Everything after it is for labeling_ui, which this package never imports: see main().
    command("label", "Gather votes: serve, add-user, import, export, status.", add_help=False)
    return top


def _add_plan(command: Callable[..., argparse.ArgumentParser]) -> None:
    """What a stage will need."""
    plan = command("plan", "Say what memory a stage will need, before it is run.", _PLAN)
    plan.add_argument("config", type=Path, metavar="CONFIG", help="a stage's YAML file")
    plan.add_argument("overrides", nargs="*", metavar="key=value", help="change a key of it")
    plan.add_argument("--gpu-memory", type=float, metavar="GIB", help="does it fit, and if not?")
    plan.add_argument("--prompt-length", type=int, help="default: what data.max_length leaves")
    plan.add_argument("--base", help="another base: folder, config.json or hub name")
    planned = ("pretrain", "sft", "reward", "dpo", "ppo")
    plan.add_argument("--stage", choices=planned, help="where the file's name does not say")
    plan.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: 16 bits")
    plan.add_argument("--attention", choices=("sdpa", "eager"), help="default: sdpa")
    plan.add_argument("--json", action="store_true", help="for programs, in bytes")


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
    chat = command("chat", "Talk to a policy at the terminal.")
    chat.add_argument("of", metavar="RUN", help="a run folder or a base")
    chat.add_argument("--system", help="a system message that opens every conversation")
    chat.add_argument("--max-new-tokens", type=int, help="longest answer; default 256")
    chat.add_argument("--temperature", type=float, help="of sampling; default 1")
    chat.add_argument("--seed", type=int, help="for the same answers every time")
    collect = command("collect", "Take in the votes of a comparison that people judge.")
    collect.add_argument("of", type=Path, metavar="RUN", help="a compare run")
    collect.add_argument("--no-wait", dest="wait", action="store_false", help="take what is there")
