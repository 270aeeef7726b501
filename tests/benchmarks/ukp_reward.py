"""A reward model from individual crowd votes on arguments, judged on two debates it never saw."""

from collections.abc import Sequence

from common import places, report

from rlhf.config import RewardConfig, build
from rlhf.data.prepare import load
from rlhf.evaluate.floors import Floors
from rlhf.evaluate.reward import audit, table
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.stages import reward

SHARE = 0.25
"""Of the training pairs, drawn over all debates, so that it is done in minutes on one core."""
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
                "train": [
                    {
                        "path": where.file("ukp_convincing_arguments/train.jsonl.gz"),
                        "format": "votes",
                        "weight": SHARE,
                    }
                ],
                "eval": [
                    {
                        "path": where.file("ukp_convincing_arguments/valid.jsonl.gz"),
                        "format": "votes",
                    }
                ],
                "max_length": 256,
            },
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 16,
            "eval_steps": 1.0,
        },
    )
    if not run.exists():
        reward.run(config)
    records = load(config.data, Preference)
    everything = build(
        RewardConfig,
        {
            "out": str(run),
            "model": where.model(),
            "data": {
                "train": [{"path": config.data.train[0].path}],
                "eval": [{"path": config.data.eval[0].path}],
            },
        },
    )
    scores = scored(run, records.eval)
    floors = {
        "same pairs": Floors.fitted(records.train),
        "all pairs": Floors.fitted(load(everything.data, Preference).train),
    }
    debates = sorted({debate(pair) for pair in records.eval})
    found = {}
    for kind, judges in floors.items():
        for names in ([debates[0]], [debates[1]], debates):
            rows = [i for i, pair in enumerate(records.eval) if debate(pair) in names]
            chosen, rejected = ([scores[side][i] for i in rows] for side in (0, 1))
            some = [records.eval[i] for i in rows]
            result = audit(chosen, rejected, some, judges, ARGUMENTS)
            found[f"{' and '.join(names)}, floors fitted to {kind}"] = {
                "audit": result,
                "table": table(result).splitlines(),
            }
    report(
        {"benchmark": "ukp_reward", "seed": where.seed, "config": config, "records": records.notes}
        | found
    )


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
