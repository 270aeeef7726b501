"""``rlhf demo``: the whole loop on the sandbox, from a base to policies that a panel prefers.

SFT on a mixed staff, comparisons that raters vote on through the running labelling server, reward,
DPO and PPO, and all of them side by side, judged by a gold score that no stage has seen.
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from rlhf.apps import compare
from rlhf.apps.demo_figures import (
    Figures,
    budget_line,
    constant_reply,
    policy_table,
    reward_audit,
    reward_lines,
    standings,
)
from rlhf.apps.panel import Ask, Tell, human_votes, simulated_votes
from rlhf.config import CONFIG_OF, load_config
from rlhf.errors import RunError
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import load_policies
from rlhf.records import Comparison, Preference, Prompt, Record, Response, from_json, to_json
from rlhf.runs import newest_checkpoint, open_run
from rlhf.sandbox.raters import ceiling
from rlhf.sandbox.staff import demonstrations
from rlhf.sandbox.world import prompts
from rlhf.shipped import shipped
from rlhf.stages import dpo, ppo, reward, sft

CONFIGS, BASE = shipped("configs/demo"), shipped("data/demo-base")
POLICIES = ("sft", "dpo", "ppo")
MAX_NEW_TOKENS = 64

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    demonstrations: int = 1500
    comparisons: int = 1600
    """To train on."""
    held_out: int = 900
    """Comparisons of held-out prompts; at least 600 of them should be settled."""
    overlap: int = 3
    """Votes on each comparison."""
    prompts: int = 2000
    """What PPO answers."""
    rollouts: int | None = None
    """Rollouts of PPO; None for what its config says."""
    eval_prompts: int = 300
    """Held-out prompts on which policies are compared."""
    samples: int = 4
    """Responses of each policy to each of them."""


FOR_PEOPLE = Sizes(comparisons=150, held_out=50, overlap=1)
"""What one person rates in an hour or two."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``rlhf demo`` was asked for."""

    out: Path = Path("runs/demo")
    seed: int = 0
    raters: Literal["simulated", "human"] = "simulated"
    resume: bool = False
    port: int = 7860
    """Where people rate; simulated raters take any free one."""
    base: Path = BASE
    sizes: Sizes | None = None
    """None for the usual ones."""


@dataclass(slots=True)
class _Demo:
    """One run of the demo: where it writes, and how long each part took."""

    options: DemoOptions
    tell: Tell
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    seconds_before: float = 0.0
    """Of ``seconds``, those of sessions that were interrupted."""

    @property
    def out(self) -> Path:
        return self.options.out

    @property
    def sizes(self) -> Sizes:
        return self.options.sizes or (FOR_PEOPLE if self.options.raters == "human" else Sizes())

    @property
    def database(self) -> Path:
        return self.out / "label.db"

    def seed(self, part: int) -> int:
        """A seed of its own for each set of prompts."""
        return 100 * self.options.seed + part

    @contextmanager
    def timed(self, name: str) -> Generator[None]:
        """Say what is going on, and how long it took; parts done before a resume keep theirs."""
        self.tell(f"── {name}")
        started = time.monotonic()
        yield
        took = time.monotonic() - started
        self._count(name, took)
        self.tell(f"   {took:.0f} s")

    def count_rest(self) -> None:
        """Count what is no part's time, so that all of them add up to what one waited."""
        counted = sum(self.seconds.values()) - self.seconds_before
        self._count("other", time.monotonic() - self.started - counted)

    def _count(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        (self.out / "seconds.json").write_text(json.dumps(self.seconds, indent=2) + "\n")

    def stage(self, name: str, **overrides: str) -> Path:
        """Run one training stage by its config, unless it is finished already."""
        out = self.out / name
        if out.is_dir():  # a run that is being written has another name
            return out
        with self.timed(name):
            wanted = {"out": out, "seed": self.options.seed, **overrides}
            config = load_config(
                CONFIG_OF[name],
                CONFIGS / f"{name}.yaml",
                [f"{key.replace('__', '.')}={value}" for key, value in wanted.items()],
            )
            partial = out.with_name(out.name + ".partial")
            _RUN[name](config, resume=newest_checkpoint(partial) is not None)
        return out


_RUN: dict[str, Callable[..., Path]] = {
    "sft": sft.run,
    "reward": reward.run,
    "dpo": dpo.run,
    "ppo": ppo.run,
}


def run(options: DemoOptions, tell: Tell, started: float | None = None) -> Path:
    """Run the loop; ``tell`` is given each line that a person should read.

    Args:
        options: what was asked for.
        tell: prints a line.
        started: when the waiting began, by ``time.monotonic``; now if left out.

    Raises:
        RunError: the folder is in use, or the labelling server fails.
    """
    demo = _start(options, tell)
    demo.started = demo.started if started is None else started
    data = _data(demo)
    policy = demo.stage(
        "sft", data__train__0__path=data["demonstrations"], model__base=str(options.base)
    )
    votes = _votes(demo, policy)
    start = {"sft": str(policy), "data__train__0__path": votes["comparisons"]}
    scorer = demo.stage("reward", **start)
    demo.stage("dpo", **start)
    start = {"policy": str(policy), "reward": str(scorer), "data__train__0__path": data["prompts"]}
    if demo.sizes.rollouts is not None:
        start["num_rollouts"] = str(demo.sizes.rollouts)
    demo.stage("ppo", **start)
    with demo.timed("compare"):
        found = _figures(demo, votes)
    _report(demo, found)
    return options.out


def _compare(demo: _Demo) -> Path:
    """The report: every policy on held-out prompts, judged by the gold score."""
    out = demo.out / "compare"
    if not out.is_dir():
        compare.run(
            compare.CompareOptions(
                policies=[str(demo.out / name) for name in POLICIES],
                prompts=str(demo.out / "data" / "held-out-prompts.jsonl"),
                out=str(out),
                judge="rlhf.sandbox.gold:gold_scores",
                num_samples=demo.sizes.samples,
                max_new_tokens=MAX_NEW_TOKENS,
                seed=demo.options.seed,
            )
        )
    return out


def _figures(demo: _Demo, votes: dict[str, str]) -> Figures:
    """Every way of answering, and the reward model on held-out comparisons."""
    cases = compare.read_cases(open_run(_compare(demo)))
    train, pairs = (_read(Path(votes[name]), Preference) for name in ("comparisons", "held-out"))
    constant = constant_reply(cases, [pair.chosen for pair in train])
    return Figures(
        num_prompts=len({case.prompt.id for case in cases}),
        num_samples=demo.sizes.samples,
        standings=standings(cases, POLICIES, constant, demo.sizes.samples),
        ceiling=ceiling(pairs),
        audit=reward_audit(demo.out / "reward", pairs, train),
    )


def _report(demo: _Demo, found: Figures) -> None:
    """Tell the tables, and keep them."""
    demo.count_rest()
    (demo.out / "figures.json").write_text(json.dumps(found.to_json(), indent=2) + "\n")
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in demo.seconds.items())
    text = "\n\n".join(
        [
            policy_table(found),
            budget_line(found),
            reward_lines(found),
            f"Time: {took}; in all {sum(demo.seconds.values()):.0f} s.",
            f"Side by side: {open_run(demo.out / 'compare').comparison}",
            f"The labelling app with these votes: rlhf label serve --db {demo.database}",
        ]
    )
    (demo.out / "README.md").write_text(f"# What the demo found\n\n{text}\n", encoding="utf-8")
    demo.tell(f"\n{text}")


def _start(options: DemoOptions, tell: Tell) -> _Demo:
    if options.out.exists() and not options.resume:
        raise RunError(f"{options.out} exists already; give another --out, or --resume")
    options.out.mkdir(parents=True, exist_ok=True)
    demo = _Demo(options, tell)
    kept = options.out / "seconds.json"
    if kept.exists():
        demo.seconds.update(json.loads(kept.read_text()))
        demo.seconds_before = sum(demo.seconds.values())
    return demo


def _data(demo: _Demo) -> dict[str, str]:
    """The files that training reads: what the staff said, and prompts for PPO."""
    folder = demo.out / "data"
    said = demonstrations(prompts(demo.seed(1), demo.sizes.demonstrations), demo.options.seed)
    records: dict[str, Sequence[Record]] = {
        "demonstrations": said,
        "prompts": prompts(demo.seed(2), demo.sizes.prompts),
        # not read here: for `rlhf compare` and `rlhf evaluate` by hand
        "held-out-prompts": _eval_prompts(demo),
    }
    return {name: str(_write(folder / f"{name}.jsonl", found)) for name, found in records.items()}


def _eval_prompts(demo: _Demo) -> list[Prompt]:
    return prompts(demo.seed(3), demo.sizes.eval_prompts, held_out=True)


def _votes(demo: _Demo, policy: Path) -> dict[str, str]:
    """The files of preferences that raters' votes amount to, by campaign."""
    sizes, kind = demo.sizes, demo.options.raters
    counts = {"comparisons": sizes.comparisons, "held-out": sizes.held_out}
    files = {name: demo.out / "data" / f"{name}.jsonl" for name in counts}
    if not all(file.exists() for file in files.values()):
        asks = [
            Ask(name, _comparisons(demo, policy, name, count), sizes.overlap)
            for name, count in counts.items()
        ]
        with demo.timed("label"):
            if kind == "simulated":
                settled = simulated_votes(demo.database, asks, demo.options.seed)
            else:
                settled = human_votes(demo.database, asks, demo.options.port, demo.tell)
        for name, found in settled.items():
            _write(files[name], found)
    return {name: str(file) for name, file in files.items()}


def _comparisons(demo: _Demo, policy: Path, name: str, count: int) -> list[Comparison]:
    """Two replies of the SFT policy to each prompt, where they differ."""
    file = demo.out / "data" / f"{name}-asked.jsonl"
    if not file.exists():
        held_out = name == "held-out"
        asked = prompts(demo.seed(5 if held_out else 4), count, held_out=held_out)
        with demo.timed("sample"):
            a, b = _replies(policy, asked, 2, seed=demo.seed(6))
        pairs = [
            Comparison(prompt, Response(one, "sft"), Response(other, "sft"))
            for prompt, one, other in zip(asked, a, b, strict=True)
            if one.strip() != other.strip()
        ]
        _write(file, pairs)
    return _read(file, Comparison)


def _replies(policy: Path, asked: Sequence[Prompt], n: int, *, seed: int) -> list[list[str]]:
    """``n`` lists of replies, one reply in each for every prompt."""
    policies = load_policies([policy])
    [name] = policies.names
    return [
        policies.respond(name, asked, Sampling(MAX_NEW_TOKENS, seed=seed + draw, batch_size=256))
        for draw in range(n)
    ]


def _write(path: Path, records: Iterable[Record]) -> Path:
    """JSON lines, complete or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    lines = (json.dumps(to_json(record), ensure_ascii=False) + "\n" for record in records)
    draft.write_text("".join(lines), encoding="utf-8")
    return draft.replace(path)


def _read(path: Path, kind: type[R]) -> list[R]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [from_json(kind, json.loads(line)) for line in lines]
