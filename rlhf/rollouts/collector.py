"""Collecting rollouts: sample, then ask every role what it thinks of the responses."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, TrainingArguments

from rlhf.chat import decode_response, encode_prompt, stop_token_ids
from rlhf.config import RolloutKnobs
from rlhf.model.engine.engines import Answers, Engine
from rlhf.model.engine.generate import Sampling
from rlhf.model.heads import ScoreHead
from rlhf.model.load import computes_in_fp32
from rlhf.model.scoring import (
    Sequences,
    at_temperature,
    entropies,
    logprobs,
    response_states,
    sequences,
    taken_logprobs,
    token_logprobs_entropies,
    values,
)
from rlhf.ppo.objectives import overlong_penalty, probability_ratio
from rlhf.records import Message, Prompt
from rlhf.rollouts.distributed import Mean, lists_of_all, of_all, share
from rlhf.rollouts.normaliser import Conversion, RewardNormaliser
from rlhf.rollouts.passes import Passes
from rlhf.rollouts.rewards import Drawn, Rewards, Row
from rlhf.rollouts.rollout import Rollout

Metrics = dict[str, Mean]
PerToken = dict[str, Tensor]
"""(batch, response) each, by the name that it has in a rollout."""


class _TokenRecorder:
    """What the policy said of its tokens while it drew them."""

    def __init__(
        self, num_rows: int, knobs: RolloutKnobs, head: ScoreHead | None, device: torch.device
    ) -> None:
        self._temperature, self._head = knobs.temperature, head
        names = ["logprobs", "entropy"] + ["values"] * (head is not None)
        shape = (num_rows, knobs.max_new_tokens)
        self._noted = {name: torch.zeros(shape, device=device) for name in names}

    def __call__(
        self, rows: Sequence[int], step: int, states: Tensor, logits: Tensor, tokens: Tensor
    ) -> None:
        """Take down one step, as :func:`sample_ids` tells it."""
        logits = at_temperature(logits, self._temperature)
        self._noted["logprobs"][rows, step] = taken_logprobs(logits, tokens)
        self._noted["entropy"][rows, step] = entropies(logits)
        if self._head is not None:
            self._noted["values"][rows, step] = self._head(states).squeeze(1)

    def of(self, batch: Sequences) -> PerToken:
        """What it noted, 0 where there is no token."""
        mask = batch.response_mask
        return {name: x[:, : mask.shape[1]].where(mask, 0.0) for name, x in self._noted.items()}


@dataclass(frozen=True, slots=True)
class Value:
    """What foretells scores: a head on the policy's states, or on those of its own adapter."""

    head: ScoreHead
    is_own: bool
    """Whether it has an adapter of its own, and does not read the policy's states."""
    reward: int | None
    """Place among the rewards of the run that it starts as a copy of."""


@dataclass(slots=True, eq=False)
class Collector:
    """Samples from the policy and asks policy, reference, rewards and value."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerFast
    engine: Engine
    rewards: Rewards
    value: Value | None
    """None for methods that learn without one."""
    knobs: RolloutKnobs
    args: TrainingArguments
    """Of the trainer that learns from the rollouts: its seed, precision and size of a pass."""
    autocast: Callable[[], AbstractContextManager[Any]]
    normaliser: RewardNormaliser

    @torch.no_grad()
    def collect(
        self, rows: Sequence[Row], first: int, *, evaluates: bool = False
    ) -> tuple[Rollout, Metrics]:
        """One response per row, and what it is like on average.

        Each process answers its share of the rows; all of them return the whole.

        ``first`` is the number of the first response in the run, which with the seed tells its
        noise. An evaluation has noise of its own and fits no units.

        Raises:
            RewardError: a reward gives something that is no score.
        """
        clock = time.perf_counter()
        if not evaluates or first == 0:  # an evaluation's later pieces are of the same policy
            self.engine.follow()
        own, before = share(rows)
        drawn, noted = self._sample(own, first + before, seed=self.args.seed + evaluates)
        sampled = time.perf_counter()
        self.model.eval()
        read = self._read(drawn.sequences, noted)
        columns = [part.score(drawn, self._passes) for part in self.rewards.parts]
        whole = self._of_all(drawn, len(rows))
        columns = [of_all(column, whole.last) for column in columns]
        raw = self.rewards.combine(columns)
        if not evaluates:
            self._fit(raw, columns, read)
        if self.value is not None and self.value.is_own:  # fitting may have moved its head
            read["values"] = self._values(drawn.sequences, self.value.head)
        rollout = self._rollout(whole, raw, read)
        metrics = _means(rollout, raw) | _mismatch(rollout)
        for part, column in zip(self.rewards.parts, columns, strict=True):
            metrics[f"objective/scores/{part.name}"] = Mean.of(column)
        metrics["time/sampling"] = Mean(sampled - clock)
        metrics["time/scoring"] = Mean(time.perf_counter() - sampled)
        return rollout, metrics

    def _sample(self, rows: Sequence[Row], first: int, *, seed: int) -> tuple[Drawn, PerToken]:
        """A response to each row, and what their sampler noted of each token."""
        knobs = self.knobs
        prompts = [encode_prompt(self.tokenizer, as_prompt(row["prompt"])) for row in rows]
        size = knobs.sampling_batch_size or knobs.rollout_batch_size
        sampling = Sampling(knobs.max_new_tokens, knobs.temperature, seed, first, size)
        recorder = None
        if self.engine.shows_steps:
            head = self.value.head if self.value and not self.value.is_own else None
            head = head if self.sampler_is_exact else None
            recorder = _TokenRecorder(len(prompts), knobs, head, self.model.device)
        with self.autocast():
            answers = self.engine.answer(prompts, sampling, recorder)
        batch = self._joined(prompts, answers.responses)
        texts = [decode_response(self.tokenizer, ids) for ids in answers.responses]
        drawn = Drawn(rows, prompts, answers.responses, texts, batch)
        return drawn, recorder.of(batch) if recorder else _logprobs(answers, batch)

    def _joined(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> Sequences:
        pad_id = cast("int", self.tokenizer.pad_token_id)
        return sequences(prompts, responses, pad_id=pad_id, device=self.model.device)

    def _of_all(self, drawn: Drawn, num_rows: int) -> Sequences:
        """Prompts and responses of all processes."""
        return self._joined(
            lists_of_all(drawn.prompts, num_rows), lists_of_all(drawn.responses, num_rows)
        )

    def _read(self, batch: Sequences, noted: PerToken) -> PerToken:
        """What policy and reference say of each token."""
        temperature = self.knobs.temperature
        of_reference = partial(logprobs, self.model, temperature=temperature)
        read = {"ref_logprobs": self._passes.over(batch, of_reference, "reference")}
        if self.sampler_is_exact:
            return read | noted
        return read | self._read_policy(batch) | {"sampler_logprobs": noted["logprobs"]}

    def _read_policy(self, batch: Sequences) -> PerToken:
        """Logprobs, entropy, and values where they are read from the policy's states."""
        head = self.value.head if self.value and not self.value.is_own else None

        def read(part: Sequences) -> list[Tensor]:
            states = response_states(self.model, part)
            found = token_logprobs_entropies(
                self.model, states, part, temperature=self.knobs.temperature
            )
            return [*found] if head is None else [*found, head(states).squeeze(2)]

        names = ("logprobs", "entropy", "values")
        return dict(zip(names, self._passes.several(batch, read, "policy"), strict=False))

    def _values(self, batch: Sequences, head: ScoreHead) -> Tensor:
        return self._passes.over(batch, partial(values, self.model, head), "value")

    @property
    def _passes(self) -> Passes:
        return Passes(self.model, self.autocast, self.args.per_device_eval_batch_size)

    @property
    def sampler_is_exact(self) -> bool:
        """Whether sampling gives a token the logprob that a pass over the whole response gives.

        In fp32 they differ in the last bits; kernels in 16 or 8 bits round by the batch's size, and
        another engine has kernels of its own.
        """
        if not self.engine.shows_steps:
            return False
        return computes_in_fp32(self.model) and not (self.args.bf16 or self.args.fp16)

    def _fit(self, raw: Tensor, columns: Sequence[Tensor], read: PerToken) -> None:
        """Fit the units in which scores are counted; the value, and what it said, follow."""
        old = (self.normaliser.mean, self.normaliser.std)
        if not self.normaliser.fit(raw) or self.value is None:
            return
        if old[0] is not None:
            conversion = Conversion(old[0], old[1], self.normaliser)
        elif (place := self.value.reward) is not None:
            # the head gives its own reward's share of the score; of the others it knows their mean
            others = raw - self.rewards.weights[place] * columns[place]
            conversion = Conversion(others.nanmean().item(), 1.0, self.normaliser)
        else:
            return  # 0 is the mean in the new units too
        conversion.rescale_head(self.value.head)
        if "values" in read:
            read["values"] = conversion.of(read["values"])

    def _rollout(self, whole: Sequences, raw: Tensor, own: PerToken) -> Rollout:
        """What is learnt from: ``raw`` scores as they count, and the tokens of all processes."""
        knobs = self.knobs
        scores = self.normaliser.apply(raw)
        if knobs.score_clip is not None:
            scores = scores.clamp(-knobs.score_clip, knobs.score_clip)
        stops = torch.tensor(stop_token_ids(self.tokenizer), device=raw.device)
        last = whole.ids.gather(1, whole.last[:, None]).squeeze(1)
        finished = torch.isin(last, stops)
        overlong = overlong_penalty(
            whole.response_mask.sum(dim=1),
            finished,
            max_new_tokens=knobs.max_new_tokens,
            buffer=knobs.overlong_buffer,
        )
        return Rollout(
            sequences=whole,
            finished=finished,
            scores=scores - knobs.missing_eos_penalty * overlong,
            **{name: of_all(x, whole.response_mask) for name, x in own.items()},
        )


def as_prompt(prompt: str | Sequence[Mapping[str, str]]) -> Prompt:
    """The record for a dataset's ``prompt``: text is one user message."""
    if isinstance(prompt, str):
        return Prompt.from_text(prompt)
    return Prompt(tuple(Message(cast("Any", turn["role"]), turn["content"]) for turn in prompt))


def _means(rollout: Rollout, raw: Tensor) -> Metrics:
    mask = rollout.mask
    return {
        "objective/scores": Mean.of(raw),
        "objective/kl": Mean.of(rollout.kl),
        "objective/kl_k3": Mean.of(rollout.k3),
        "objective/entropy": Mean.of(rollout.entropy[mask]),
        "response_length": Mean.of(mask.sum(dim=1).float()),
        "truncated": Mean.of((~rollout.finished).float()),
        "not_judged": Mean.of((~rollout.judged).float()),
    }


def _logprobs(answers: Answers, batch: Sequences) -> PerToken:
    """What an engine elsewhere says of its tokens, 0 where there is none."""
    assert answers.logprobs is not None
    said = torch.zeros(batch.response_mask.shape, device=batch.ids.device)
    said[batch.response_mask] = torch.tensor([x for row in answers.logprobs for x in row]).to(said)
    return {"logprobs": said}


def _mismatch(rollout: Rollout) -> Metrics:
    """How far the sampler is from the trainer: nats per token (k3)."""
    if rollout.sampler_logprobs is None:
        return {}
    ratio = probability_ratio(rollout.logprobs, rollout.sampler_logprobs)
    return {"sampling/kl": Mean.of((ratio - 1 - ratio.log())[rollout.mask])}
