"""Collecting rollouts: sample, then ask every role what it thinks of the responses."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from rlhf.chat import decode_response, encode_prompt, stop_token_ids
from rlhf.model.engine.engines import Answers, Engine
from rlhf.model.engine.generate import Sampling
from rlhf.model.heads import ScoreHead
from rlhf.model.load import computes_in_fp32
from rlhf.model.roles import acting_as
from rlhf.model.scoring import (
    Sequences,
    at_temperature,
    entropies,
    logprobs,
    response_states,
    scores,
    sequences,
    taken_logprobs,
    token_logprobs_entropies,
    values,
)
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.objectives import masked_mean, overlong_penalty, probability_ratio
from rlhf.records import Message, Prompt
from rlhf.rollouts.distributed import lists_of_all, of_all, share
from rlhf.rollouts.rewards import RewardAdapter, Rewards
from rlhf.rollouts.rollout import Rollout, select

Row = Mapping[str, Any]
"""A row of the dataset: ``prompt`` as text or messages, and what callables want besides."""
Metrics = dict[str, float]


@dataclass(slots=True)
class ScoreUnits:
    """Mean and deviation of the first rollout's scores, in which all later ones are counted.

    They are frozen: by a running deviation a policy that converges would see its rewards grow and
    the price of KL vanish.
    """

    mean: float | None = None
    std: float = 1.0

    def fit(self, raw: Tensor) -> None:
        """Take the units from ``raw``."""
        self.mean = raw.mean().item()
        self.std = max(raw.std(unbiased=False).item(), 1e-6)

    def move(self, head: ScoreHead) -> None:
        """Let a head that gives raw scores give them in these units."""
        if self.mean is not None:
            head.weight.div_(self.std)
            head.bias.sub_(self.mean).div_(self.std)

    def apply(self, raw: Tensor) -> Tensor:
        """``raw`` in these units; as it is where nothing was fitted."""
        return raw if self.mean is None else (raw - self.mean) / self.std


class _Account:
    """What the policy said of its tokens while it drew them."""

    def __init__(
        self, num_rows: int, args: PPOArguments, value_head: ScoreHead | None, device: torch.device
    ) -> None:
        self._temperature, self._head = args.temperature, value_head
        names = ["logprobs", "entropy"] + ["values"] * (value_head is not None)
        shape = (num_rows, args.max_new_tokens)
        self._said = {name: torch.zeros(shape, device=device) for name in names}

    def __call__(
        self, rows: Sequence[int], step: int, states: Tensor, logits: Tensor, tokens: Tensor
    ) -> None:
        """Take down one step, as :func:`sample_ids` tells it."""
        logits = at_temperature(logits, self._temperature)
        self._said["logprobs"][rows, step] = taken_logprobs(logits, tokens)
        self._said["entropy"][rows, step] = entropies(logits)
        if self._head is not None:
            self._said["values"][rows, step] = self._head(states).squeeze(1)

    def of(self, batch: Sequences) -> dict[str, Tensor]:
        """(batch, response) each, 0 where there is no token."""
        mask = batch.response_mask
        return {name: x[:, : mask.shape[1]].where(mask, 0.0) for name, x in self._said.items()}


@dataclass(slots=True, eq=False)
class Collector:
    """Samples from the policy and asks policy, reference, rewards and value."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerFast
    engine: Engine
    rewards: Rewards
    value_head: ScoreHead
    args: PPOArguments
    autocast: Callable[[], AbstractContextManager[Any]]
    units: ScoreUnits

    @torch.no_grad()
    def collect(
        self, rows: Sequence[Row], first: int, *, evaluates: bool = False
    ) -> tuple[Rollout, Metrics]:
        """One response per row, and what it is like on average.

        Each process answers its share of the rows; all of them return the whole.

        ``first`` is the number of the first response in the run, which with the seed tells its
        noise. An evaluation has noise of its own and fits no units.
        """
        clock = time.perf_counter()
        args = self.args
        own, before = share(rows)
        prompts = [encode_prompt(self.tokenizer, as_prompt(row["prompt"])) for row in own]
        sampling = Sampling(
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            seed=args.seed + evaluates,
            first=first + before,
            batch_size=args.rollout_batch_size,
        )
        if not evaluates or first == 0:  # an evaluation's later pieces are of the same policy
            self.engine.follow()
        responses, batch, noted = self._sample(prompts, sampling)
        sampled = time.perf_counter()
        self.model.eval()
        said = self._ask(batch)
        if self.sampler_is_exact:
            said |= noted
        else:
            said |= self._ask_policy(batch) | {"sampler_logprobs": noted["logprobs"]}
        columns = [self._score(part, said, own, responses) for part in self.rewards.parts]
        prompts, responses = (lists_of_all(x, len(rows)) for x in (prompts, responses))
        whole = self._joined(prompts, responses)
        columns = [of_all(column, whole.last) for column in columns]
        raw = self.rewards.combine(columns)
        if args.score_norm == "frozen" and self.units.mean is None and not evaluates:
            self.units.fit(raw)
            if self.value_is_own and self.rewards.adapters:  # then it is a copy of the reward
                self.units.move(self.value_head)
        scores = self.units.apply(raw)
        if args.score_clip is not None:
            scores = scores.clamp(-args.score_clip, args.score_clip)
        stops = set(stop_token_ids(self.tokenizer))
        finished = torch.tensor([row[-1] in stops for row in responses], device=raw.device)
        overlong = overlong_penalty(
            whole.response_mask.sum(dim=1),
            finished,
            max_new_tokens=args.max_new_tokens,
            buffer=args.overlong_buffer,
        )
        if self.value_is_own:
            said["values"] = self._values(batch)
        rollout = Rollout(
            sequences=whole,
            finished=finished,
            scores=scores - args.missing_eos_penalty * overlong,
            **{name: of_all(x, whole.response_mask) for name, x in said.items() if x.dim() == 2},
        )
        metrics = _means(rollout, raw) | _mismatch(rollout, args.is_cap)
        for name, column in zip(self.rewards.names, columns, strict=True):
            metrics[f"objective/scores/{name}"] = column.nanmean().item()
        metrics["time/sampling"] = sampled - clock
        metrics["time/scoring"] = time.perf_counter() - sampled
        return rollout, metrics

    def _sample(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> tuple[list[list[int]], Sequences, dict[str, Tensor]]:
        """Responses, with their prompts, and what their sampler noted of each token."""
        account = None
        if self.engine.shows_steps:
            reads_states = self.sampler_is_exact and not self.value_is_own
            head = self.value_head if reads_states else None
            account = _Account(len(prompts), self.args, head, self.model.device)
        with self.autocast():
            answers = self.engine.answer(prompts, sampling, account)
        batch = self._joined(prompts, answers.responses)
        noted = account.of(batch) if account else _logprobs(answers, batch)
        return answers.responses, batch, noted

    def _joined(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> Sequences:
        pad_id = cast("int", self.tokenizer.pad_token_id)
        return sequences(prompts, responses, pad_id=pad_id, device=self.model.device)

    def _ask_policy(self, batch: Sequences) -> dict[str, Tensor]:
        """Logprobs, entropy, and values where they are read from the policy's states."""
        said = defaultdict[str, list[Tensor]](list)
        with self.autocast(), acting_as(self.model, "policy"):
            for rows in self._chunks(batch):
                part = select(batch, rows)
                states = response_states(self.model, part)
                new, entropy = token_logprobs_entropies(
                    self.model, states, part, temperature=self.args.temperature
                )
                said["logprobs"].append(new)
                said["entropy"].append(entropy)
                if not self.value_is_own:
                    said["values"].append(self.value_head(states).squeeze(2))
        return {key: self._whole(batch, parts) for key, parts in said.items()}

    def _ask(self, batch: Sequences) -> dict[str, Tensor]:
        """Logprobs of the reference, and a raw score per reward run.

        One role after the other over all rows: switching costs more than a small forward.
        """
        model, temperature = self.model, self.args.temperature
        chunks = [select(batch, rows) for rows in self._chunks(batch)]
        said = defaultdict[str, list[Tensor]](list)
        with self.autocast(), acting_as(model, "reference"):
            for part in chunks:
                said["ref_logprobs"].append(logprobs(model, part, temperature=temperature))
        for reward in self.rewards.adapters:
            with self.autocast(), acting_as(model, "reward", reward.which):
                key = f"reward {reward.which}"
                said[key] += [scores(model, reward.head, part) for part in chunks]
        return {key: self._whole(batch, parts) for key, parts in said.items()}

    @property
    def sampler_is_exact(self) -> bool:
        """Whether sampling gives a token the logprob that a pass over the whole response gives.

        In fp32 they differ in the last bits; kernels in 16 or 8 bits round by the batch's size, and
        another engine has kernels of its own.
        """
        if not self.engine.shows_steps:
            return False
        return computes_in_fp32(self.model) and not (self.args.bf16 or self.args.fp16)

    @property
    def value_is_own(self) -> bool:
        """Whether the value has an adapter of its own, and does not read the policy's states."""
        return self.args.value_model == "adapter"

    def _values(self, batch: Sequences) -> Tensor:
        """After the units are known, because fitting them moves the head."""
        with acting_as(self.model, "value"), self.autocast():
            parts = [
                values(self.model, self.value_head, select(batch, rows))
                for rows in self._chunks(batch)
            ]
        return self._whole(batch, parts)

    def _score(
        self,
        part: Any,  # noqa: ANN401 - an adapter or a callable
        said: Mapping[str, Tensor],
        rows: Sequence[Row],
        responses: Sequence[Sequence[int]],
    ) -> Tensor:
        if isinstance(part, RewardAdapter):
            return said[f"reward {part.which}"]
        texts = [decode_response(self.tokenizer, ids) for ids in responses]
        return self.rewards.call(part, rows, texts, responses).to(self.model.device)

    def _chunks(self, batch: Sequences) -> list[Tensor]:
        """Rows of similar length together, as many as an evaluation batch holds."""
        order = batch.mask.sum(dim=1).argsort(stable=True)
        return list(order.split(self.args.per_device_eval_batch_size))

    def _whole(self, batch: Sequences, parts: Sequence[Tensor]) -> Tensor:
        """The pieces of ``_chunks`` in the order of the batch, padded to its width."""
        back = torch.cat(self._chunks(batch)).argsort()
        if parts[0].dim() == 1:
            return torch.cat(list(parts))[back]
        width = batch.response_mask.shape[1]
        padded = [nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
        return torch.cat(padded)[back]


def as_prompt(prompt: str | Sequence[Mapping[str, str]]) -> Prompt:
    """The record for a dataset's ``prompt``: text is one user message."""
    if isinstance(prompt, str):
        return Prompt.from_text(prompt)
    return Prompt(tuple(Message(cast("Any", turn["role"]), turn["content"]) for turn in prompt))


def _means(rollout: Rollout, raw: Tensor) -> Metrics:
    return {
        "objective/scores": raw.mean().item(),
        "objective/kl": rollout.kl.mean().item(),
        "objective/kl_k3": rollout.k3.mean().item(),
        "objective/entropy": masked_mean(rollout.entropy, rollout.mask).item(),
        "response_length": rollout.mask.sum(dim=1).float().mean().item(),
        "truncated": (~rollout.finished).float().mean().item(),
    }


def _logprobs(answers: Answers, batch: Sequences) -> dict[str, Tensor]:
    """What an engine elsewhere says of its tokens, (batch, response), 0 where there is none."""
    assert answers.logprobs is not None
    said = torch.zeros(batch.response_mask.shape, device=batch.ids.device)
    said[batch.response_mask] = torch.tensor([x for row in answers.logprobs for x in row]).to(said)
    return {"logprobs": said}


def _mismatch(rollout: Rollout, cap: float | None) -> Metrics:
    """How far the sampler is from the trainer: nats per token (k3), and the mean weight."""
    if rollout.sampler_logprobs is None:
        return {}
    ratio = probability_ratio(rollout.logprobs, rollout.sampler_logprobs)
    kl = masked_mean(ratio - 1 - ratio.log(), rollout.mask)
    weights = rollout.weights(cap)
    mean = (
        {} if weights is None else {"sampling/is_weight_mean": masked_mean(weights, rollout.mask)}
    )
    return {name: x.item() for name, x in {"sampling/kl": kl, **mean}.items()}
