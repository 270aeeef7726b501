"""DPO and PPO against the first fold of harmlessness, on prompts of that fold that nobody saw."""

import json
from pathlib import Path
from typing import Any

from common import Places, places, report
from hh_reward import MAX_LENGTH, everything, fold_of

from rlhf.chat import decode_response
from rlhf.config import DPOConfig, PPOConfig, SFTConfig, build
from rlhf.evaluate.intervals import mean
from rlhf.evaluate.winrate import gain, shares, win_rate
from rlhf.model.engine.generate import Sampling
from rlhf.model.load import load_tokenizer
from rlhf.model.policies import load_policies
from rlhf.model.scorer import load_scorer
from rlhf.records import to_json
from rlhf.runs import open_run
from rlhf.stages import dpo, ppo, sft

FOLD = 0
NUM_DEMONSTRATIONS, NUM_PROMPTS, NUM_SAMPLES = 400, 128, 10
MAX_NEW_TOKENS = 40


def main() -> None:
    """Run sft, dpo and ppo beside the fold's reward run; answer unseen prompts with each."""
    where = places()
    reward = where.work / f"hh-reward-{FOLD}"
    if not reward.exists():
        raise SystemExit("run hh_reward.py first")
    seen = where.work / f"hh-{FOLD}-seen.jsonl"
    pairs = everything(where)
    seen.write_text("".join(json.dumps(to_json(p)) + "\n" for p in pairs if fold_of(p) != FOLD))
    runs = aligned(where, reward, seen)
    unseen = {p.prompt.id: p.prompt for p in pairs if fold_of(p) == FOLD}
    prompts = list(unseen.values())[:NUM_PROMPTS]
    policies, scorer = load_policies(list(runs.values())), load_scorer(reward)
    tokenizer = load_tokenizer(str(open_run(runs["sft"]).tokenizer))
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, seed=where.seed)
    drawn = {name: policies.sample(name, prompts, sampling) for name in policies.names}
    texts = {name: [decode_response(tokenizer, ids) for ids in d] for name, d in drawn.items()}
    scores = {name: scorer.score(prompts, t) for name, t in texts.items()}
    reference = policies.names[0]
    found: dict[str, Any] = {}
    for name in policies.names:
        found[name] = {
            "score": mean(scores[name]),
            "score_gain": gain(scores[name], scores[reference]),
            "win_rate": win_rate(shares(scores[name], scores[reference])),
            "kl": mean(policies.kl(name, reference, prompts, drawn[name])),
            "length": mean([len(ids) for ids in drawn[name]]),
            "cut_off": sum(len(ids) == MAX_NEW_TOKENS for ids in drawn[name]) / len(prompts),
        }
    samples = [
        {
            "prompt": prompts[i].messages[-1].content,
            **{name: {"text": texts[name][i], "score": scores[name][i]} for name in texts},
        }
        for i in range(NUM_SAMPLES)
    ]
    report({"benchmark": "hh_align", "seed": where.seed, "prompts": len(prompts),
            "configs": {stage: open_run(path).config for stage, path in runs.items()}}
           | found | {"samples": samples})  # fmt: skip


def aligned(where: Places, reward: Path, seen: Path) -> dict[str, Path]:
    """The three runs, made where they are not there yet."""
    runs = {stage: where.work / f"hh-{stage}" for stage in ("sft", "dpo", "ppo")}
    few = where.work / f"hh-{FOLD}-train.jsonl"
    shared = {"seed": where.seed, "per_device_train_batch_size": 16, "eval_steps": 1.0}

    def data(path: Path, limit: int | None = None) -> dict[str, Any]:
        return {"train": [{"path": str(path), "limit": limit}], "eval_fraction": 0.0,
                "max_length": MAX_LENGTH, "max_dropped": 0.3}  # fmt: skip

    if not runs["sft"].exists():
        config = {"out": str(runs["sft"]), "model": where.model(),
                  "data": data(seen, NUM_DEMONSTRATIONS), "learning_rate": 2e-3,
                  **shared}  # fmt: skip
        sft.run(build(SFTConfig, config))
    if not runs["dpo"].exists():
        config = {"out": str(runs["dpo"]), "sft": str(runs["sft"]), "data": data(few),
                  "learning_rate": 3e-4, **shared}  # fmt: skip
        dpo.run(build(DPOConfig, config))
    if not runs["ppo"].exists():
        config = {"out": str(runs["ppo"]), "policy": str(runs["sft"]), "reward": str(reward),
                  "data": data(seen), "learning_rate": 3e-4, "value_learning_rate": 5e-4,
                  "num_rollouts": 20, "rollout_batch_size": 64, "num_ppo_epochs": 2,
                  "num_mini_batches": 2, "max_new_tokens": MAX_NEW_TOKENS,
                  "value_warmup_rollouts": 3, **shared}  # fmt: skip
        ppo.run(build(PPOConfig, config))
    return runs


if __name__ == "__main__":
    main()
