"""Who judges a comparison without being asked in person: a reward run, or a Python function."""

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from rlhf.errors import ConfigError, RLHFError
from rlhf.model.bases import Bases
from rlhf.model.scorer import load_scorer
from rlhf.records import Prompt
from rlhf.runs import is_run, open_run

OnProgress = Callable[[int], object]


class Judge(Protocol):
    """Gives each response a score; the higher one wins."""

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        on_progress: OnProgress | None = None,
    ) -> list[float]:
        """One score per response."""
        ...


def check_judge(spec: str) -> None:
    """Refuse what cannot judge, before anything is sampled.

    Raises:
        ConfigError: neither a folder nor ``module:function``.
        RunError: the folder is not a finished reward run.
    """
    if is_run(spec) or Path(spec).exists():
        open_run(spec, "reward")
    else:
        _function(spec)


def load_judge(spec: str, bases: Bases) -> Judge:
    """The judge that ``spec`` names: the folder of a reward run, or ``module:function``."""
    return load_scorer(spec, bases) if is_run(spec) else FunctionJudge(spec)


class FunctionJudge:
    """A Python function with the signature of TRL's rewards.

    It is called with ``prompts`` and ``completions``, both plain text where every prompt is a
    single user message and lists of messages otherwise, and with those metadata that all prompts
    have, as far as it takes them.
    """

    def __init__(self, spec: str) -> None:
        self._spec, self._function = spec, _function(spec)

    def score(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        on_progress: OnProgress | None = None,
    ) -> list[float]:
        """One finite number per response."""
        plain = all(len(p.messages) == 1 and p.messages[0].role == "user" for p in prompts)
        given = self._function(
            prompts=[p.messages[0].content if plain else _turns(p) for p in prompts],
            completions=[t if plain else [{"role": "assistant", "content": t}] for t in texts],
            **self._columns(prompts),
        )
        scores = [math.nan if score is None else float(score) for score in given]
        num_finite = sum(map(math.isfinite, scores))
        if not len(scores) == num_finite == len(texts):
            raise ConfigError(
                f"{self._spec} gave {len(scores)} scores, {num_finite} of them finite, for "
                f"{len(texts)} responses; return one number for each"
            )
        if on_progress is not None:
            on_progress(len(texts))
        return scores

    def _columns(self, prompts: Sequence[Prompt]) -> dict[str, list[Any]]:
        shared = set[str].intersection(*(set(p.metadata) for p in prompts))
        takes = inspect.signature(self._function).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            shared &= set(takes)
        shared -= {"prompts", "completions"}
        return {key: [p.metadata[key] for p in prompts] for key in sorted(shared)}


def _turns(prompt: Prompt) -> list[Mapping[str, str]]:
    return [m.turn for m in prompt.messages]


def _function(spec: str) -> Callable[..., Sequence[float | None]]:
    module, _, name = spec.partition(":")
    if not module or not name:
        raise ConfigError(
            f"{spec!r} cannot judge: name the folder of a reward run, module:function, or people"
        )
    # the console script does not look for modules where it was started, as `python -m` does
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except RLHFError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{spec}: cannot be imported ({error}); check the name") from error
    if not callable(found):
        raise ConfigError(f"{spec} is not a function; name one that takes prompts and completions")
    return cast("Callable[..., Sequence[float | None]]", found)
