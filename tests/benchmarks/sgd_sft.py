"""SFT on customer-service dialogues: how well replies are predicted before and after."""

import random
from collections.abc import Callable

from common import Places, places, report

from rlhf.config import SFTConfig, SourceConfig, build
from rlhf.data.sources import read
from rlhf.evaluate.intervals import bootstrap_mean
from rlhf.evaluate.text import chrf, corpus_bleu, corpus_chrf, perplexity, rouge_l, token_f1
from rlhf.evaluate.winrate import gain
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import load_policies
from rlhf.records import Demonstration, Prompt
from rlhf.stages import sft

SHARE = 0.1
"""Of the 12,174 training dialogues, drawn over all domains: they stand in the file by domain."""
NUM_PREDICTED, NUM_WRITTEN = 400, 150
METRICS: dict[str, Callable[[str, str], float]] = {
    "chrf": chrf,
    "rouge_l": rouge_l,
    "token_f1": token_f1,
}


def main() -> None:
    """Train, then measure the base and the run on the same turns of unseen dialogues."""
    where = places()
    run = where.work / "sgd-sft"
    config = build(
        SFTConfig,
        {
            "out": str(run),
            "seed": where.seed,
            "model": where.model(),
            "data": {
                "train": [{"path": where.file("sgd_dialogues/train.jsonl.gz"), "weight": SHARE}],
                "eval_fraction": 0.0,
                "max_length": 512,
            },
            "learning_rate": 2e-3,
        },
    )
    if not run.exists():
        sft.run(config)
    prompts, replies = turns(where)
    policies = load_policies([where.base, run])
    sampling = Sampling(max_new_tokens=48, temperature=0.0)
    real = replies[:NUM_WRITTEN]
    written = {n: policies.respond(n, prompts[:NUM_WRITTEN], sampling) for n in policies.names}
    found = {}
    for name, texts in written.items():
        nlls, sizes = zip(*policies.nll(name, prompts, replies), strict=True)
        found[name] = {
            "perplexity": perplexity(nlls, sizes),
            "corpus_chrf": corpus_chrf(texts, real),
            "corpus_bleu": corpus_bleu(texts, real),
            **{m: bootstrap_mean(list(map(f, texts, real))) for m, f in METRICS.items()},
            "samples": [
                {"prompt": prompt.messages[-1].content, "response": text, "real": reply}
                for prompt, text, reply in zip(prompts[:5], texts, real, strict=False)
            ],
        }
    before, after = written.values()
    found["gain"] = {
        m: gain(list(map(f, after, real)), list(map(f, before, real))) for m, f in METRICS.items()
    }
    report({"benchmark": "sgd_sft", "seed": where.seed, "config": config, **found})


def turns(where: Places) -> tuple[list[Prompt], list[str]]:
    """One assistant turn at random from each of some dialogues of the development set."""
    source = SourceConfig(path=where.file("sgd_dialogues/dev.jsonl.gz"))
    draw = random.Random(where.seed)
    prompts: list[Prompt] = []
    replies: list[str] = []
    for dialogue in draw.sample(read(source, Demonstration), NUM_PREDICTED):
        turn = draw.choice([i for i, m in enumerate(dialogue.messages) if m.role == "assistant"])
        prompts.append(Prompt(dialogue.messages[:turn]))
        replies.append(dialogue.messages[turn].content)
    return prompts, replies


if __name__ == "__main__":
    main()
