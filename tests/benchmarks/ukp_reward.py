"""A reward model from individual crowd votes on arguments, judged on two debates it never saw."""

from collections.abc import Sequence

from common import Places, places, report

from rlhf.config import DataConfig, RewardConfig, SourceConfig, build
from rlhf.data.prepare import load
from rlhf.evaluate.floors import Floors
from rlhf.evaluate.reward import audit, table
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.stages import reward

SHARE = 0.5
"""Of the training pairs, drawn over all debates, so that it is done in half an hour on one core."""
ARGUMENTS = ("chosen_policy", "rejected_policy")
"""Where settling puts the ids of the two arguments; pairs that share one are dependent."""


def main() -> None:
    """Train on the votes of 14 debates; score the other two, each and together."""
    where = places()
    run = where.work / "ukp-reward"
    config = build(
        RewardConfig,
        {
            "out": str(run),
            "seed": where.seed,
            "model": where.model(),
            "data": {
                "train": [{"path": votes(where, "train"), "format": "votes", "weight": SHARE}],
                "eval_fraction": 0.0,
                "max_length": 256,
            },
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 16,
        },
    )
    if not run.exists():
        reward.run(config)
    train = load(config.data, Preference).train
    held_out = settled(votes(where, "valid"))
    scores = scored(run, held_out)
    floors = {
        "same pairs": Floors.fitted(train),
        "all pairs": Floors.fitted(settled(votes(where, "train"))),
    }
    debates = sorted({debate(pair) for pair in held_out})
    found = {}
    for kind, judges in floors.items():
        for names in ([debates[0]], [debates[1]], debates):
            rows = [i for i, pair in enumerate(held_out) if debate(pair) in names]
            chosen, rejected = ([scores[side][i] for i in rows] for side in (0, 1))
            some = [held_out[i] for i in rows]
            result = audit(chosen, rejected, some, judges, ARGUMENTS)
            found[f"{' and '.join(names)}, floors fitted to {kind}"] = {
                "audit": result,
                "table": table(result).splitlines(),
            }
    report({"benchmark": "ukp_reward", "seed": where.seed, "config": config, **found})


def votes(where: Places, split: str) -> str:
    """The file of one split."""
    return where.file(f"ukp_convincing_arguments/{split}.jsonl.gz")


def settled(path: str) -> list[Preference]:
    """All of a file's pairs that the votes decide, each once."""
    return load(DataConfig(train=[SourceConfig(path=path)], eval_fraction=0.0), Preference).train


def debate(pair: Preference) -> str:
    """The debate that a pair is from."""
    return pair.prompt.text.splitlines()[0]


def scored(run, pairs: Sequence[Preference]) -> tuple[list[float], list[float]]:
    """The run's scores of the chosen and of the rejected responses."""
    scorer = load_scorer(run)
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    return chosen, scorer.score(prompts, [pair.rejected for pair in pairs])


if __name__ == "__main__":
    main()
