"""A panel of simulated raters, and the best that anyone could predict of it.

Raters see the gold score through their own taste, choose by Bradley-Terry with their own
sharpness, call close ones a tie and poor ones both bad, and now and then do not look at all.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlhf.records import Comparison, Outcome, Preference, Response, Side, Vote
from rlhf.sandbox.gold import gold

_SHARPNESS = (0.10, 0.20)
"""Range of the Bradley-Terry temperature: a gap of one temperature is seen 73 % of the time."""
_TASTE = 0.08
"""Standard deviation of what a whole step of courtesy or brevity is worth to one rater."""
_CARELESS = (0.0, 0.08)
_TIE = (0.02, 0.08)
_POOR = (0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Rater:
    """One simulated rater; votes depend on ``seed``, ``name`` and the comparison alone."""

    seed: int
    name: str
    temperature: float
    courtesy_taste: float
    brevity_taste: float
    carelessness: float
    """Chance to vote without looking."""
    tie_width: float
    """Gaps up to this are not seen."""
    poor: float
    """Two replies below this are both bad."""

    def vote(self, comparison: Comparison, a_side: Side) -> Vote:
        """What this rater says; the side it was shown on is recorded and changes nothing."""
        rng = random.Random(f"vote {self.seed} {self.name} {comparison.id}")
        return Vote(comparison.id, self.name, self._outcome(comparison, rng), a_side)

    def _outcome(self, comparison: Comparison, rng: random.Random) -> Outcome:
        careless, luck = rng.random(), rng.random()
        if careless < self.carelessness:
            return "a" if luck < 0.5 else "b"
        a = self._worth(comparison, comparison.response_a)
        b = self._worth(comparison, comparison.response_b)
        if abs(a - b) <= self.tie_width:
            return "both_bad" if max(a, b) < self.poor else "tie"
        return "a" if luck < 1 / (1 + math.exp((b - a) / self.temperature)) else "b"

    def _worth(self, comparison: Comparison, response: Response) -> float:
        score = gold(comparison.prompt, response)
        return (
            score.total
            + self.courtesy_taste * (score.courtesy - 0.5)
            + self.brevity_taste * (score.brevity - 0.5)
        )


def panel(seed: int, num_raters: int) -> list[Rater]:
    """Simulated raters with tastes of their own, which cancel out on average."""
    return [_hire(seed, number) for number in range(1, num_raters + 1)]


def _hire(seed: int, number: int) -> Rater:
    name = f"simulated-{number:02d}"
    rng = random.Random(f"rater {seed} {name}")
    return Rater(
        seed=seed,
        name=name,
        temperature=rng.uniform(*_SHARPNESS),
        courtesy_taste=rng.gauss(0, _TASTE),
        brevity_taste=rng.gauss(0, _TASTE),
        carelessness=rng.uniform(*_CARELESS),
        tie_width=rng.uniform(*_TIE),
        poor=rng.uniform(*_POOR),
    )


def ceiling(preferences: Iterable[Preference]) -> float:
    """How often the settled votes agree with gold: the most that any predictor can hope for.

    A predictor that knows the gold score, but not who voted nor their luck, does best by naming
    the response with the higher gold. It is right on this share of ``preferences``; where the gold
    scores are equal it can only guess, which counts a half. Ties are not settled, so not counted.
    """
    hits = [_agreement(preference) for preference in preferences]
    if not hits:
        raise ValueError("the ceiling needs at least one settled comparison")
    return sum(hits) / len(hits)


def _agreement(preference: Preference) -> float:
    chosen = gold(preference.prompt, preference.chosen).total
    rejected = gold(preference.prompt, preference.rejected).total
    return 0.5 if chosen == rejected else float(chosen > rejected)


def assigned(raters: Sequence[Rater], comparison: Comparison, overlap: int) -> list[Rater]:
    """Which raters judge this comparison where nobody else deals them out."""
    return random.Random(f"assigned {comparison.id}").sample(list(raters), overlap)
