"""The labelling server under load: real votes replayed, kills, races, and the time of a vote.

    python tests/benchmarks/label_load.py replay WORK FILE.jsonl.gz …  [--db URL] [--kills 5]
    python tests/benchmarks/label_load.py race WORK [--db URL] [--kills 5]
    python tests/benchmarks/label_load.py speed WORK [--tasks 1000 1000000]

WORK takes the databases; FILE holds comparisons with the votes on each. Prints one JSON object.
"""

import argparse
import json
import platform
import random
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from labeling_ui.accounts import SECRET_VARIABLE, Account, Accounts
from labeling_ui.api import COOKIE
from labeling_ui.campaigns import Campaigns
from labeling_ui.export import Export, export
from labeling_ui.keeping import examine
from labeling_ui.store import Store
from labeling_ui.tables import UserRow
from labeling_ui.tasks import Settings, Task
from rlhf.data.files import rows
from rlhf.data.votes import Judged, votes
from rlhf.records import Comparison, Prompt, Response
from tests.load import Item, Load, Outcome, Served

SECRET = "a secret of the benchmark"
ENVIRONMENT = {SECRET_VARIABLE: SECRET}
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class People:
    """Raters by name, and the cookies with which they are signed in."""

    cookies: Mapping[str, str]

    @classmethod
    def made(cls, store: Store, names: Iterable[str]) -> "People":
        """All of them at once, without passwords."""
        accounts = Accounts(store, SECRET, hasher=_CHEAP)
        with store.write() as session:
            made = [
                UserRow(name=n, handle=n.lower(), role="rater", password_hash="", created_at="")
                for n in names
            ]
            session.add_all(made)
        return cls({row.name: accounts.cookie(Account(row.id, row.name, "rater")) for row in made})

    def headers(self, name: str) -> dict[str, str]:
        """What this rater's browser sends."""
        return {"Cookie": f"{COOKIE}={self.cookies[name]}"}


def replayed(
    database: Path | str, judged: Sequence[Judged], *, kills: int, drops: float, clients: int = 50
) -> dict[str, Any]:
    """Every vote in ``judged`` through the API as lists of the raters; what is then in the store.

    Raises:
        AssertionError: if the store does not hold exactly these votes.
    """
    comparisons = {one.comparison.id: one.comparison for one in judged}
    wanted: dict[tuple[str, str], str] = {}
    for one in judged:
        for vote in one.votes:
            wanted[vote.rater, vote.comparison] = vote.outcome
    raters = sorted({rater for rater, _ in wanted})
    random.Random(0).shuffle(raters)
    with closing(Store(database)) as store:
        people = People.made(store, raters)
        campaigns = Campaigns(store)
        tasks = {key: Task.of(one) for key, one in comparisons.items()}
        campaigns.add("replay", tasks.values(), settings=Settings(source="list", overlap=5))
        campaigns.assign("replay", [(rater, tasks[key].key) for rater, key in wanted])
    of_prompt: defaultdict[tuple[str, frozenset[str]], list[Comparison]] = defaultdict(list)
    for one in comparisons.values():
        of_prompt[_shown(one.prompt.messages[-1].content, one)].append(one)

    def choose(rater: str, item: Item) -> str:
        texts = item["responses"]
        [one] = of_prompt[item["messages"][-1]["content"], frozenset(texts)]
        outcome = wanted[rater, one.id]
        if outcome not in ("a", "b"):
            return outcome
        chosen = one.response_a if outcome == "a" else one.response_b
        return ("left", "right")[texts.index(chosen.text)]

    result, died = loaded(
        database, "replay", people, choose, raters=raters, clients=clients, kills=kills, drops=drops
    )
    with closing(Store(database, create=False)) as store:
        held = export(store, "replay")
        problems = examine(store).problems
    found = {(vote.rater, vote.comparison): vote.outcome for vote in held.votes}
    assert len(held.votes) == len(found) == len(result.acknowledged)
    assert found == wanted
    assert problems == ()
    _same_majorities(judged, held)
    return _figures(result) | {"raters": len(raters), "kills": died, "sides": _sides(held)}


def _shown(question: str, one: Comparison) -> tuple[str, frozenset[str]]:
    return question, frozenset((one.response_a.text, one.response_b.text))


def _same_majorities(judged: Sequence[Judged], held: Export) -> None:
    """By another way than the export's: who has more of the original votes."""
    lead: Counter[str] = Counter()
    for one in judged:
        for vote in one.votes:
            lead[one.comparison.id] += {"a": 1, "b": -1}.get(vote.outcome, 0)
    expected: set[tuple[str, str, str]] = set()
    for one in judged:
        c, ahead = one.comparison, lead[one.comparison.id]
        texts = [c.response_a.text, c.response_b.text]
        if ahead:
            expected.add((c.prompt.id, *(texts if ahead > 0 else reversed(texts))))
    assert {(p.prompt.id, p.chosen, p.rejected) for p in held.preferences} == expected
    assert len(held.ties) == sum(not lead[one.id] for one in held.comparisons)


def _sides(held: Export) -> dict[str, int]:
    return dict(Counter(vote.a_side for vote in held.votes))


def raced(
    database: Path | str, *, raters: int, tasks: int, overlap: int, kills: int, drops: float
) -> dict[str, Any]:
    """Raters who race for the places of a pool; each task ends with exactly its votes.

    Raises:
        AssertionError: if not.
    """
    names = [f"racer-{number}" for number in range(raters)]
    with closing(Store(database)) as store:
        people = People.made(store, names)
        Campaigns(store).add("race", made(tasks), settings=Settings(overlap=overlap))
    result, died = loaded(
        database, "race", people, _any, raters=names, clients=raters, kills=kills, drops=drops
    )
    with closing(Store(database, create=False)) as store:
        held = export(store, "race")
        problems = examine(store).problems
    by_task: defaultdict[str, set[str]] = defaultdict(set)
    for vote in held.votes:
        by_task[vote.comparison].add(vote.rater)
    assert len(held.votes) == tasks * overlap == len(result.acknowledged)
    assert {len(people) for people in by_task.values()} == {overlap}
    assert len(by_task) == tasks
    assert len({number for _, number, _ in result.acknowledged}) == len(held.votes)
    assert problems == ()
    return _figures(result) | {"kills": died}


def loaded(
    database: Path | str,
    campaign: str,
    people: People,
    choose: Any,
    *,
    raters: Sequence[str],
    clients: int,
    kills: int,
    drops: float,
) -> tuple[Outcome, int]:
    """The load, while the server is killed so many times; how often it was."""
    with Served(str(database), ENVIRONMENT) as server:
        load = Load(lambda: server.url, campaign, people.headers, choose, drops=drops)
        killer = threading.Thread(target=server.die, args=(kills, 3.0))
        killer.start()
        result = load.run(raters, clients)
        killer.join()
        return result, server.kills


def made(count: int) -> list[Task]:
    """Tasks of two responses."""
    return [
        Task.of(
            Comparison(
                Prompt.from_text(f"Where is parcel {number}?"),
                Response(f"Parcel {number} arrives on Monday.", "one"),
                Response(f"I do not know about {number}.", "two"),
            )
        )
        for number in range(count)
    ]


def _any(rater: str, item: Item) -> str:  # noqa: ARG001
    return random.choice(("left", "right", "tie", "both_bad"))


def _figures(result: Outcome) -> dict[str, Any]:
    return {
        "votes": len(result.acknowledged),
        "votes_per_s": round(result.per_second, 1),
        "p50_ms": round(1000 * result.percentile(0.5), 1),
        "p95_ms": round(1000 * result.percentile(0.95), 1),
    }


def read(files: Sequence[Path]) -> list[Judged]:
    """The comparisons and votes of files, duplicates of a comparison together."""
    return [one for file in files for _, row in rows(str(file)) for one in votes(row, {})]


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["replay", "race"])
    parser.add_argument("work", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--db", help="a PostgreSQL database; a SQLite file in WORK if left out")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--drops", type=float, default=0.0)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    database = given.db or given.work / f"{given.what}.db"
    if given.what == "replay":
        found = replayed(database, read(given.files), kills=given.kills, drops=given.drops)
    else:
        found = raced(
            database, raters=60, tasks=400, overlap=3, kills=given.kills, drops=given.drops
        )
    facts = {"benchmark": f"label {given.what}", "python": platform.python_version(), **found}
    json.dump(facts, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
