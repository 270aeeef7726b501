"""The labelling server under load: real votes replayed, kills, races, and the time of a vote.

    python tests/benchmarks/label_load.py replay WORK FILE.jsonl.gz …  [--db URL] [--kills 5]
    python tests/benchmarks/label_load.py race WORK [--db URL] [--kills 5]
    python tests/benchmarks/label_load.py speed WORK [--tasks 1000 1000000] [--rounds 3]

WORK takes the databases; FILE holds comparisons with the votes on each. Prints one JSON object.
"""

import argparse
import json
import platform
import random
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import httpx
from argon2 import PasswordHasher
from sqlalchemy import text

from labeling_ui.accounts.sessions import SECRET_VARIABLE
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import Accounts
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.export import Export, export
from rlhf.data.readers.files import rows
from rlhf.data.readers.votes import Judged, votes
from rlhf.records import Comparison, Prompt, Response, to_json
from tests.load import Choose, GradioLoad, Item, Load, Outcome, Served

T = TypeVar("T")

_BARE = Path(__file__).with_name("bare_server.py")
SECRET = "a secret of the benchmark"
ENVIRONMENT = {SECRET_VARIABLE: SECRET}
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class Room:
    """A server that runs, seen by its admin; raters are made in bulk, each with a token."""

    server: Served
    admin: str

    @classmethod
    def opened(cls, server: Served) -> "Room":
        """With an admin of its own."""
        with closing(Store(server.database)) as store:
            accounts = Accounts(store, SECRET, hasher=_CHEAP)
            accounts.add("load", "correct horse", "admin")
            return cls(server, Tokens(store, accounts).make("load", None))

    def post(self, path: str, body: object) -> Any:
        """What the API answers to the admin."""
        answer = httpx.post(
            self.server.url + path, json=body, headers=_bearer(self.admin), timeout=600
        )
        assert answer.is_success, answer.text
        return answer.json()

    def raters(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """What each of them sends along."""
        made: list[dict[str, str]] = []
        for part in batched(names, 500):
            made += self.post("/api/users", [{"name": name} for name in part])
        return {one["name"]: _bearer(one["token"]) for one in made}

    def campaign(self, name: str, asked: Iterable[Comparison], **settings: Any) -> None:
        """A campaign of comparisons."""
        for part in batched(asked, 2000):
            body = {"name": name, "settings": settings, "comparisons": list(map(to_json, part))}
            self.post("/api/campaigns", body)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def batched(many: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of that size, and the rest."""
    rest = iter(many)
    while part := list(islice(rest, size)):
        yield part


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
    with Served(str(database), ENVIRONMENT) as server:
        room = Room.opened(server)
        headers = room.raters(raters)
        room.campaign("replay", comparisons.values(), source="list", overlap=5)
        keys = {key: min(one.id, one.swapped().id) for key, one in comparisons.items()}
        for part in batched(wanted, 10_000):
            lists = [(rater, keys[key]) for rater, key in part]
            room.post("/api/campaigns/replay/assignments", {"assignments": lists})
        load = Load(
            lambda: server.url,
            "replay",
            headers.__getitem__,
            _as_wanted(comparisons, wanted),
            drops,
        )
        result, died = loaded(load, raters, clients, kills, server)
    with closing(Store(database, create=False)) as store:
        held = export(store, "replay")
        problems = examine(store).problems
    # where both responses are one text, nobody can say which of them was meant
    twins = {key for key, one in comparisons.items() if one.response_a.text == one.response_b.text}
    wanted = {at: "a" if at[1] in twins and said == "b" else said for at, said in wanted.items()}
    found = {
        (vote.rater, vote.comparison): "a"
        if vote.comparison in twins and vote.outcome == "b"
        else vote.outcome
        for vote in held.votes
    }
    assert len(held.votes) == len(found) == len(result.acknowledged)
    assert found == wanted
    assert problems == ()
    _same_majorities(judged, held)
    return _figures(result) | {"raters": len(raters), "kills": died, "sides": _sides(held)}


def _as_wanted(
    comparisons: Mapping[str, Comparison], wanted: Mapping[tuple[str, str], str]
) -> Choose:
    """A rater presses what brings about the wanted outcome, wherever the responses stand.

    Comparisons that look the same to a rater come in the order of the list.
    """
    lists: defaultdict[tuple[str, str, frozenset[str]], list[Comparison]] = defaultdict(list)
    for rater, key in reversed(list(wanted)):
        one = comparisons[key]
        texts = frozenset((one.response_a.text, one.response_b.text))
        lists[rater, one.prompt.messages[-1].content, texts].append(one)

    def choose(rater: str, item: Item) -> str:
        texts = item["responses"]
        one = lists[rater, item["messages"][-1]["content"], frozenset(texts)].pop()
        outcome = wanted[rater, one.id]
        if outcome not in ("a", "b"):
            return outcome
        chosen = one.response_a if outcome == "a" else one.response_b
        return ("left", "right")[texts.index(chosen.text)]

    return choose


def _same_majorities(judged: Sequence[Judged], held: Export) -> None:
    """By another way than the export's: who has more of the original votes."""
    lead: Counter[str] = Counter()
    for one in judged:
        for vote in one.votes:
            lead[one.comparison.id] += {"a": 1, "b": -1}.get(vote.outcome, 0)
    expected: set[tuple[str, str, str]] = set()
    for one in judged:
        c, ahead = one.comparison, lead[one.comparison.id]
        if c.response_a.text == c.response_b.text:
            continue
        if ahead > 0:
            expected.add((c.prompt.id, c.response_a.text, c.response_b.text))
        elif ahead < 0:
            expected.add((c.prompt.id, c.response_b.text, c.response_a.text))
    settled = {(p.prompt.id, p.chosen, p.rejected) for p in held.preferences}
    assert {one for one in settled if one[1] != one[2]} == expected


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
    with Served(str(database), ENVIRONMENT) as server:
        room = Room.opened(server)
        headers = room.raters(names)
        room.campaign("race", made(tasks), overlap=overlap)
        load = Load(lambda: server.url, "race", headers.__getitem__, _any, drops)
        result, died = loaded(load, names, raters, kills, server)
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


def timed(
    work: Path, *, tasks: Sequence[int], rounds: int, raters: int = 50, most: int = 15
) -> dict[str, Any]:
    """The time from a vote to the next item, of raters who think for 1 to 3 s, in turn with the
    bare handler's and for campaigns of several sizes."""
    seen: defaultdict[str, list[float]] = defaultdict(list)
    names = [f"rater-{number}" for number in range(raters)]
    headers: dict[int, dict[str, dict[str, str]]] = {}
    for count in tasks:
        database = work / f"speed-{count}.db"
        _fill(database, count)
        with Served(str(database), ENVIRONMENT) as server:
            headers[count] = Room.opened(server).raters(names)
    for _ in range(rounds):
        for kind, of_kind in (("json", Load), ("gradio", GradioLoad)):
            with Served(str(work / "bare.db"), {}, (str(_BARE), kind)) as bare:
                nobody = of_kind(lambda at=bare: at.url, "x", lambda _: {}, _any, 0.0, (1, 3), most)
                seen[f"bare {kind}"].append(nobody.run(names, raters).percentile(0.95))
        for count in tasks:
            with Served(str(work / f"speed-{count}.db"), ENVIRONMENT) as server:
                own = headers[count].__getitem__
                load = Load(lambda url=server: url.url, "speed", own, _any, 0.0, (1, 3), most)
                seen[str(count)].append(load.run(names, raters).percentile(0.95))
    p95 = {name: round(1000 * median(found), 1) for name, found in seen.items()}
    return {
        "p95_ms": p95,
        "rounds_ms": {k: [round(1000 * x, 1) for x in v] for k, v in seen.items()},
    }


def _fill(database: Path, count: int) -> None:
    """A campaign of so many comparisons, each to be judged three times.

    Beyond the first thousand they are copies under other keys, which SQL makes in no time.
    """
    with closing(Store(database)) as store:
        tasks = map(Task.of, made(1000))
        Campaigns(store).add("speed", tasks, settings=Settings(overlap=3))
        with store.write() as session:
            session.execute(
                text(
                    "INSERT INTO task (campaign_id, key, record, use, rank, shuffle, num_votes, "
                    "complete) WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM "
                    "copy WHERE n < :copies) SELECT campaign_id, key || '-' || n, record, use, "
                    "rank, shuffle, 0, 0 FROM copy, task WHERE :copies > 0"
                ),
                {"copies": count // 1000 - 1},
            )
            session.execute(text("UPDATE campaign SET num_tasks = :count"), {"count": count})


def loaded(
    load: Load, raters: Sequence[str], clients: int, kills: int, server: Served
) -> tuple[Outcome, int]:
    """The load, while the server is killed so many times; how often it was."""
    killer = threading.Thread(target=server.die, args=(kills, 3.0))
    killer.start()
    result = load.run(raters, clients)
    killer.join()
    return result, server.kills


def made(count: int) -> Iterator[Comparison]:
    """As many different ones."""
    return (
        Comparison(
            Prompt.from_text(f"Where is parcel {number}?"),
            Response(f"Parcel {number} arrives on Monday.", "one"),
            Response(f"I do not know about {number}.", "two"),
        )
        for number in range(count)
    )


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
    parser.add_argument("what", choices=["replay", "race", "speed"])
    parser.add_argument("work", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--db", help="a PostgreSQL database; a SQLite file in WORK if left out")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--drops", type=float, default=0.0)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    database = given.db or given.work / f"{given.what}.db"
    if given.what == "replay":
        found = replayed(database, read(given.files), kills=given.kills, drops=given.drops)
    elif given.what == "speed":
        found = timed(given.work, tasks=given.tasks, rounds=given.rounds)
    else:
        found = raced(
            database, raters=60, tasks=400, overlap=3, kills=given.kills, drops=given.drops
        )
    facts = {"benchmark": f"label {given.what}", "python": platform.python_version(), **found}
    json.dump(facts, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
