"""PPO and its siblings on the sandbox, each from the same SFT and reward run, at one budget.

    python tests/benchmarks/methods.py WORK --seeds 0 1 --methods ppo rloo grpo

Every method may draw and score as many responses as configs/demo/ppo.yaml does. DPO and KTO get
pairs that SFT drew and the reward run judged; best of n is imitated by a further SFT. What is
finished in WORK is used again, so that a broken run goes on.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from rlhf.apps import compare, demo
from rlhf.apps.demo_figures import standings
from rlhf.config import PPOConfig, load_config, load_stage
from rlhf.model.bases import Bases
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import load_policies
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference, Prompt
from rlhf.runs import newest_checkpoint, open_run
from tests.benchmarks.common import report

CONFIGS = demo.CONFIGS
METHODS = ("ppo", "rloo", "grpo", "online-dpo", "dpo", "kto", "best-of-n")
RATES = {"rloo": None, "grpo": None, "online-dpo": None, "dpo": None, "kto": None}
"""Learning rates where another than that of configs/demo was better with seed 9."""
NUM_SAMPLES = 2


def main() -> None:
    """Train what is asked for, seed by seed, and print the table as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value")
    given = parser.parse_args()
    budget = _budget()
    found = {}
    for seed in given.seeds:
        world = World(given.work / f"seed-{seed}", seed)
        runs = {name: world.train(name, given.set) for name in given.methods}
        found[seed] = world.measured({"sft": world.policy, **runs})
    report({"budget": budget, "samples": NUM_SAMPLES, "seeds": found})


def _budget() -> int:
    config = load_config(PPOConfig, CONFIGS / "ppo.yaml")
    return config.num_rollouts * config.rollout_batch_size


class World:
    """One seed of the demo: its customers, staff, panel, SFT run and reward run."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        options = demo.DemoOptions(out=root, seed=seed, resume=True)
        self.demo = demo._start(options, _tell)
        self.data = demo._data(self.demo)
        self.policy = self.demo.stage(
            "sft",
            data__train__0__path=self.data["demonstrations"],
            model__base=str(options.base),
        )
        self.votes = demo._votes(self.demo, self.policy)
        start = {"sft": str(self.policy), "data__train__0__path": self.votes["comparisons"]}
        self.reward = self.demo.stage("reward", **start)

    def train(self, method: str, overrides: list[str]) -> Path:
        """The policy that ``method`` makes."""
        if method in ("dpo", "kto"):
            own = [f"sft={self.policy}", f"data.train.0.path={self._pairs()}"]
            return self._run(method, CONFIGS / f"{method}.yaml", [*own, *overrides])
        own = [
            f"policy={self.policy}",
            f"reward={self.reward}",
            f"data.train.0.path={self.data['prompts']}",
        ]
        run = self._run(method, CONFIGS / f"{method}.yaml", [*own, *overrides])
        if method != "best-of-n":
            return run
        kept = f"data.train.0.path={open_run(run).demonstrations}"
        again = ["model=null", f"sft={self.policy}", kept, "learning_rate=1e-3"]
        return self._run("sft", CONFIGS / "sft.yaml", again, name="best-of-n-sft")

    def _run(self, stage: str, path: Path, overrides: list[str], name: str = "") -> Path:
        out = self.root / (name or stage)
        if not out.is_dir():
            rate = RATES.get(stage)
            given = [f"learning_rate={rate}"] if rate else []
            own = [f"out={out}", f"seed={self.seed}"]
            config = load_stage(stage, path, [*own, *given, *overrides])
            module = importlib.import_module(f"rlhf.stages.{stage.replace('-', '_')}")
            partial = out.with_name(out.name + ".partial")
            with self.demo.timed(name or stage):
                module.run(config, resume=newest_checkpoint(partial) is not None)
        return out

    def _pairs(self) -> Path:
        """As many responses as the budget allows, drawn by SFT in pairs, judged by the reward."""
        path = self.root / "data" / "judged-pairs.jsonl"
        if path.exists():
            return path
        asked = demo._read(Path(self.data["prompts"]), Prompt)[: _budget() // 2]
        bases = Bases()
        policies, scorer = load_policies([self.policy], bases), load_scorer(self.reward, bases)
        [name] = policies.names
        with self.demo.timed("pairs"):
            drawn = [
                policies.sample(name, asked, Sampling(demo.MAX_NEW_TOKENS, seed=s, batch_size=256))
                for s in (700, 701)
            ]
            prompts = policies.encode(name, asked)
            scores = [scorer.score_ids(prompts, ids) for ids in drawn]
        texts = [policies.decode(name, ids) for ids in drawn]
        return demo._write(path, list(_judged(asked, texts, scores)))

    def measured(self, runs: dict[str, Path]) -> dict[str, Any]:
        """Gold score, its gain over SFT and KL from SFT on prompts that nothing was trained on."""
        out = self.root / ("compare-" + "-".join(runs))
        if not out.is_dir():
            with self.demo.timed(out.name):
                compare.run(
                    compare.CompareOptions(
                        policies=[str(path) for path in runs.values()],
                        prompts=str(self.root / "data" / "held-out-prompts.jsonl"),
                        out=str(out),
                        judge="rlhf.sandbox.gold:gold_scores",
                        num_samples=NUM_SAMPLES,
                        max_new_tokens=demo.MAX_NEW_TOKENS,
                        seed=self.seed,
                    )
                )
        cases = compare.read_cases(open_run(out))
        rows = standings(cases, list(runs), "", NUM_SAMPLES)
        return {row.name: row for row in rows if row.name in runs}


def _judged(asked, texts, scores):
    """The pairs whose two texts differ; the higher score was chosen."""
    for prompt, a, b, of_a, of_b in zip(asked, *texts, *scores, strict=True):
        if a.strip() != b.strip():
            yield Preference(prompt, *((a, b) if of_a >= of_b else (b, a)))


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
