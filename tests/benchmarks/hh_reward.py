"""Reward models of harmlessness in five folds by prompt, against floors fitted to the same rows."""

import json
from collections.abc import Sequence
from pathlib import Path

from common import Places, places, report

from rlhf.config import DataConfig, RewardConfig, SourceConfig, build
from rlhf.data.prepare import load
from rlhf.evaluate.floors import FLOORS
from rlhf.evaluate.intervals import mean, proportion
from rlhf.evaluate.reward import members_of
from rlhf.evaluate.winrate import shares
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference, to_json
from rlhf.stages import reward

NUM_FOLDS = 5
MAX_LENGTH, MAX_CHARACTERS = 320, 1000
"""Three quarters of the pairs; the rest is left out so that it is done in half an hour."""


def main() -> None:
    """Five runs; every pair is judged once, by a model that saw no pair of its prompt."""
    where = places()
    pairs = everything(where)
    verdicts: dict[str, list[float]] = {"reward model": [], **{name: [] for name in FLOORS}}
    judged: list[Preference] = []
    configs: list[RewardConfig] = []
    for fold in range(NUM_FOLDS):
        train = [p for p in pairs if fold_of(p) != fold]
        held_out = [p for p in pairs if fold_of(p) == fold]
        configs.append(fold_config(where, fold, train))
        run = Path(configs[-1].out)
        if not run.exists():
            reward.run(configs[-1])
        scorer = load_scorer(run)
        prompts = [p.prompt for p in held_out]
        ours = scorer.score(prompts, [p.chosen for p in held_out])
        theirs = scorer.score(prompts, [p.rejected for p in held_out])
        verdicts["reward model"] += shares(ours, theirs)
        for name, fit in FLOORS.items():
            margins = fit(train)(held_out)
            verdicts[name] += shares(margins, [0.0] * len(margins))
        judged += held_out
    members = members_of(judged, ())
    longer = [len(p.chosen) - len(p.rejected) for p in judged]
    uneven = [i for i, n in enumerate(longer) if n]
    found = {
        name: {
            "accuracy": proportion(right, members),
            "balanced": proportion(
                [right[i] for i in uneven],
                [members[i] for i in uneven],
                [longer[i] > 0 for i in uneven],
            ),
            "behind": mean(
                [a - b for a, b in zip(verdicts["reward model"], right, strict=True)], members
            ),
        }
        for name, right in verdicts.items()
    }
    report(
        {
            "benchmark": "hh_reward",
            "seed": where.seed,
            "pairs": len(judged),
            "prompts": len({key for keys in members for key in keys}),
            "longer_chosen": sum(n > 0 for n in longer),
            "config": configs[0],
        }
        | found
    )


def everything(where: Places) -> list[Preference]:
    """The short pairs of both files, in the order of their prompts' hashes."""
    sources = [
        SourceConfig(path=where.file(f"hh_harmless/{n}.jsonl.gz")) for n in ("train", "valid")
    ]
    found = load(DataConfig(train=sources, eval_fraction=0.0), Preference).train
    # all judges see the same rows, also those whose training reads every character
    short = [
        p
        for p in found
        if len(p.prompt.text) + max(len(p.chosen), len(p.rejected)) <= MAX_CHARACTERS
    ]
    return sorted(short, key=lambda p: (p.prompt.id, p.chosen))


def fold_of(pair: Preference) -> int:
    """The fold of a prompt, by its hash."""
    return int(pair.prompt.id[-8:], 16) % NUM_FOLDS


def fold_config(where: Places, fold: int, train: Sequence[Preference]) -> RewardConfig:
    """The fold's run; its rows are written beside it."""
    path = where.work / f"hh-{fold}-train.jsonl"
    path.write_text("".join(json.dumps(to_json(pair)) + "\n" for pair in train), encoding="utf-8")
    return build(
        RewardConfig,
        {
            "out": str(where.work / f"hh-reward-{fold}"),
            "seed": where.seed,
            "model": where.model(),
            "data": {"train": [{"path": str(path)}], "eval_fraction": 0.0, "max_length": MAX_LENGTH,
                     "max_dropped": 0.2},
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 16,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
