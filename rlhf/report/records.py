"""What a comparison found, as one record; the page is made of nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from rlhf.records import Prompt, to_json

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, config=_STRICT)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, config=_STRICT)
class Answer:
    """What one policy responded to one prompt."""

    text: str
    num_tokens: int
    finished: bool
    """False if it was cut off at the longest length allowed."""
    score: float | None = None
    kl: float | None = None
    """Nats from the reference, over the whole response."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Verdict:
    """How answers ``a`` and ``b`` (indices of policies) of one prompt compare."""

    a: int
    b: int
    share: float
    """Wins of a, a tie counting half, over the judgements: 1, 0.5 or 0 for a single one."""
    num_votes: int = 1


@dataclass(frozen=True, slots=True, config=_STRICT)
class Case:
    """One prompt with one answer per policy, in the order of the report's policies."""

    prompt: Prompt
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, config=_STRICT)
class PolicySummary:
    """One policy, over all prompts."""

    name: str
    path: str
    stage: str
    length: Estimate
    """Tokens per response."""
    cut_off: float
    """Share of responses that were cut off."""
    score: Estimate | None = None
    gain: Estimate | None = None
    """Score minus the reference's on the same prompts."""
    kl: Estimate | None = None
    """Nats per response, from the reference."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class WinRate:
    """How often ``policy`` wins over ``over``, a tie counting half a win."""

    policy: str
    over: str
    rate: Estimate
    wins: int
    ties: int
    losses: int
    both_bad: int = 0
    """Those of the ties in which a person called both bad."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Report:
    """Policies that answered the same prompts, judged."""

    title: str
    judge: str
    reference: str
    policies: tuple[PolicySummary, ...]
    cases: tuple[Case, ...]
    win_rates: tuple[WinRate, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    """What a reader must know before believing the numbers."""

    def summary(self) -> dict[str, Any]:
        """Everything but the cases, as plain data."""
        data = {k: v for k, v in asdict(self).items() if k != "cases"}
        return data | {"num_prompts": len({case.prompt.id for case in self.cases})}


_CASE = TypeAdapter(Case)


def case_to_json(case: Case) -> dict[str, Any]:
    """``case`` as one JSON object."""
    return {**_CASE.dump_python(case, mode="json"), "prompt": to_json(case.prompt)}


def case_from_json(data: Mapping[str, Any]) -> Case:
    """The case that :func:`case_to_json` wrote."""
    prompt = {k: v for k, v in data["prompt"].items() if k != "id"}
    return _CASE.validate_python({**data, "prompt": prompt})
