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
from collections.abc import Sequence
from pathlib import Path

from rlhf.cli.commands import COMMANDS, train
from rlhf.cli.parser import STAGES, parser
from rlhf.errors import RLHFError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not sys.stderr.isatty():
        _without_bars()
    if arguments[:1] == ["label"]:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "labeling_ui", *arguments[1:]])
    options = _parse(arguments)
    _quieten()
    try:
        return COMMANDS.get(options.command, train)(options)
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
    if options.command in STAGES:
        strange = _take_words(options, rest)
    elif options.command == "plan":
        strange = [word for word in rest if word.startswith("-") or "=" not in word]
        options.overrides += rest
    else:
        strange = rest
    if strange:
        top.exit(
            2,
            f"rlhf {options.command}: {' '.join(strange)!r} is not understood; "
            f"see `rlhf {options.command} --help`\n",
        )
    return options


def _take_words(options: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Tell a stage's config from its overrides; what is neither, nor an option."""
    from rlhf.config import is_override

    words = [word for word in (options.config, *options.overrides, *rest) if word is not None]
    options.overrides = [word for word in words if is_override(word)]
    first, *more = [word for word in words if not is_override(word)] or [None]
    if first is None or first.startswith("-"):
        options.config = None
        return [first, *more] if first else []
    options.config = Path(first)
    return more


def _quieten() -> None:
    """Keep what libraries say to developers off the screen, unless it is asked for."""
    for name, value in {
        "HF_HUB_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _without_bars() -> None:
    """Keep bars out of files and pipes: of loading weights, of downloads, of reading data."""
    for library in ("HUB", "DATASETS"):
        os.environ.setdefault(f"HF_{library}_DISABLE_PROGRESS_BARS", "1")


def _way_on(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """How to go on after an interruption."""
    named = ""
    if options.command in STAGES:
        from rlhf.config import load_stage
        from rlhf.runs import can_resume

        named = options.out
        out = named or load_stage(options.command, options.config, options.overrides).out
        if not out or not can_resume(out):
            return " before the first checkpoint; nothing was kept"
    elif options.command != "demo":
        return ""
    again = [a for a in arguments if a != "--resume"] + [f"out={named}"] * bool(named)
    return f"; go on with `{shlex.join(['rlhf', *again, '--resume'])}`"
