"""The audit of a reward model: how often it is right, and whether that is more than length."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlhf.evaluate.floors import Floors
from rlhf.evaluate.intervals import Estimate, Members, mean, proportion
from rlhf.evaluate.winrate import shares
from rlhf.records import Preference

MODEL = "reward model"


@dataclass(frozen=True, slots=True)
class Judged:
    """How one judge did on the held-out pairs. A tie counts half."""

    name: str
    accuracy: Estimate
    balanced: Estimate | None
    """Mean of the accuracies where the longer and where the shorter response was chosen; any rule
    of length alone gets 0.5. None where one of the two does not occur."""
    behind: Estimate | None
    """Accuracy of the reward model minus this judge's, on the same pairs."""


@dataclass(frozen=True, slots=True)
class Audit:
    """A reward model beside the floors, all on the same held-out pairs."""

    num_train: int
    num_pairs: int
    num_longer_chosen: int
    num_shorter_chosen: int
    num_clusters: int
    clustered_by: str
    judges: tuple[Judged, ...]
    margin: float
    """Mean of the chosen response's score minus the rejected one's."""
    num_left_out: int = 0
    """Pairs longer than the model was trained for."""

    def to_json(self) -> dict[str, Any]:
        """The audit as one JSON object."""
        return asdict(self)


def audit(
    chosen: Sequence[float],
    rejected: Sequence[float],
    pairs: Sequence[Preference],
    floors: Floors,
    cluster: Sequence[str] = (),
) -> Audit:
    """Judge ``pairs`` by the model's scores, and by floors fitted to its training pairs.

    ``cluster`` names the columns (at most two) whose values make rows dependent, like the two
    arguments of a pair; without any, pairs of one prompt are.
    """
    members = members_of(pairs, cluster)
    longer = [len(p.chosen) - len(p.rejected) for p in pairs]
    ours = shares(chosen, rejected)
    judges = [_judged(MODEL, ours, longer, members, None)]
    for name, judge in floors.judges.items():
        margins = judge(pairs)
        judges.append(_judged(name, shares(margins, [0.0] * len(pairs)), longer, members, ours))
    return Audit(
        num_train=floors.num_train,
        num_pairs=len(pairs),
        num_longer_chosen=sum(n > 0 for n in longer),
        num_shorter_chosen=sum(n < 0 for n in longer),
        num_clusters=len({key for keys in members for key in keys}),
        clustered_by=" and ".join(cluster) or "prompt",
        judges=tuple(judges),
        margin=sum(a - b for a, b in zip(chosen, rejected, strict=True)) / len(pairs),
    )


def members_of(pairs: Sequence[Preference], cluster: Sequence[str]) -> Members:
    """What each pair belongs to: the values of the columns ``cluster``, else its prompt."""
    if not cluster:
        return [(pair.prompt.id,) for pair in pairs]
    return [tuple(_hashable(pair.provenance.get(key)) for key in cluster) for pair in pairs]


def _hashable(value: object) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)


def _judged(
    name: str,
    right: Sequence[float],
    longer: Sequence[int],
    members: Members,
    ours: Sequence[float] | None,
) -> Judged:
    some = [i for i, n in enumerate(longer) if n]
    kinds = [longer[i] > 0 for i in some]
    behind = None
    if ours is not None:
        behind = mean([a - b for a, b in zip(ours, right, strict=True)], members)
    return Judged(
        name=name,
        accuracy=proportion(right, members),
        balanced=proportion([right[i] for i in some], [members[i] for i in some], kinds)
        if len(set(kinds)) == 2
        else None,
        behind=behind,
    )


def table(found: Audit) -> str:
    """The audit in Markdown."""
    lines = [
        "| judge | accuracy % | balanced % | reward model is ahead by |",
        "|---|---|---|---|",
        *(
            f"| {j.name} | {_percent(j.accuracy)} | {_percent(j.balanced)} | "
            f"{_percent(j.behind, sign='+')} |"
            for j in found.judges
        ),
    ]
    left_out = f"; {found.num_left_out} longer ones left out" if found.num_left_out else ""
    return (
        "\n".join(lines)
        + f"\n\n{found.num_pairs} held-out pairs{left_out}, the longer response chosen in "
        f"{found.num_longer_chosen}, the shorter in {found.num_shorter_chosen}. In brackets: 95 % "
        f"intervals, clustered by {found.clustered_by} ({found.num_clusters}). Ties count half. "
        "Balanced is the mean of the accuracies where the longer and where the shorter response "
        f"was chosen. Floors are fitted to the {found.num_train} training pairs.\n"
    )


def _percent(estimate: Estimate | None, sign: str = "") -> str:
    if estimate is None:
        return "-"
    numbers = (f"{100 * x:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return "{} [{}, {}]".format(*numbers)
