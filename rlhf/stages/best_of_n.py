"""Best of n: several responses of a policy to each prompt, of which the reward run keeps one.

What is kept is data: ``rlhf sft`` on the run's demonstrations is rejection sampling fine-tuning
(Touvron et al. 2023, 3.2.3). The run also tells what would have been had for every smaller n.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev

from tqdm.auto import tqdm

from rlhf.config import BestOfNConfig
from rlhf.data.prepare import load
from rlhf.data.tokenized import prompt_dataset
from rlhf.evaluate.best_of_n import best_of, kl_of_best
from rlhf.model.bases import Bases
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import Policies, load_policies
from rlhf.model.scorer import Scorer, load_scorer
from rlhf.model.start import Start
from rlhf.records import Demonstration, Message, Prompt, to_json
from rlhf.report import write_run_report
from rlhf.rollouts.prompt_order import PromptOrder
from rlhf.rollouts.rewards import in_words, reward_start
from rlhf.runs import POLICY_STAGES, Run, new_run, open_run
from rlhf.training.arguments import refuse_launcher

log = logging.getLogger(__name__)

_NUM_SHOWN = 6


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A response and what the reward run says of it."""

    text: str
    score: float
    finished: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """The responses to one prompt."""

    prompt: Prompt
    drawn: tuple[_Drawn, ...]

    def ranked(self, penalty: float) -> list[_Drawn]:
        """The worst first, a response that was cut off at ``penalty`` less than its score."""
        return sorted(self.drawn, key=lambda one: one.score - penalty * (not one.finished))


def run(config: BestOfNConfig, *, resume: bool = False) -> Path:
    """Draw, score and keep the best as demonstrations; the finished run folder."""
    refuse_launcher("best-of-n")
    start = Start.of_run(config.policy)
    judge = reward_start(config.reward, start.fingerprint)
    if judge.spec.arithmetic != start.spec.arithmetic:
        log.warning(
            "%s scores on the base as it was trained on, %s; the policy samples from it as %s, so "
            "both are in memory",
            config.reward,
            in_words(*judge.spec.arithmetic),
            in_words(*start.spec.arithmetic),
        )
    parents = {
        "policy": open_run(config.policy, POLICY_STAGES).path,
        "reward": open_run(config.reward, "reward").path,
    }
    records = load(config.data, Prompt)
    with new_run("best-of-n", config, parents=parents, resume=resume) as folder:
        bases = Bases()
        policies, scorer = load_policies([config.policy], bases), load_scorer(config.reward, bases)
        actor = bases.actor(start)
        data = replace(config.data, max_length=min(config.data.max_length, actor.context_length))
        room = config.max_new_tokens
        kept = prompt_dataset(records.train, actor.tokenizer, data, room=room)["index"]
        prompts = [records.train[i] for i in kept]
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        groups = list(_draw(config, prompts, policies, scorer))
        deviation = pstdev(one.score for group in groups for one in group.drawn)
        ranked = [group.ranked(config.missing_eos_penalty * deviation) for group in groups]
        _write(folder, groups, ranked)
    write_run_report(config.out)
    return Path(config.out)


def _draw(
    config: BestOfNConfig, prompts: Sequence[Prompt], policies: Policies, scorer: Scorer
) -> Iterator[_Group]:
    """The responses that PPO's first rollouts would be if the policy did not learn."""
    [name] = policies.names
    order = PromptOrder(prompts, config, config.seed)
    size, times = config.rollout_batch_size, config.samples_per_prompt
    for number in tqdm(range(config.num_rollouts), disable=None, dynamic_ncols=True):
        asked = [prompts[i] for i in order.indices(number)]
        each = [prompt for prompt in asked for _ in range(times)]
        at_once = config.sampling_batch_size or size
        sampling = Sampling(
            config.max_new_tokens, config.temperature, config.seed, number * size, at_once
        )
        ids = policies.sample(name, each, sampling)
        scores = scorer.score_ids(policies.encode(name, each), ids)
        texts, finished = policies.decode(name, ids), policies.finished(name, ids)
        drawn = [_Drawn(*one) for one in zip(texts, scores, finished, strict=True)]
        for place, prompt in enumerate(asked):
            yield _Group(prompt, tuple(drawn[place * times : (place + 1) * times]))


def _write(folder: Run, groups: Sequence[_Group], ranked: Sequence[Sequence[_Drawn]]) -> None:
    """The demonstrations; the curve over n; some of the best and the worst for the report."""
    best = [
        Demonstration(
            (*group.prompt.messages, Message("assistant", order[-1].text)),
            {"score": order[-1].score, "best_of": len(order)},
        )
        for group, order in zip(groups, ranked, strict=True)
    ]
    lines = (json.dumps(to_json(one), ensure_ascii=False) + "\n" for one in best)
    folder.demonstrations.write_text("".join(lines), encoding="utf-8")
    for n in range(1, len(ranked[0]) + 1):
        scores = fmean(best_of(n, [one.score for one in order]) for order in ranked)
        folder.log({"objective/scores": scores, "objective/kl": kl_of_best(n)}, n)
    folder.record(
        responses=sum(map(len, ranked)),
        truncated=fmean(not one.finished for order in ranked for one in order),
        samples=[
            {
                "prompt": group.prompt.text,
                "responses": {"worst": order[0].text, "best": order[-1].text},
            }
            for group, order in list(zip(groups, ranked, strict=True))[:_NUM_SHOWN]
        ],
    )
