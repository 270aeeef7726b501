"""Several finished runs on as few bases as possible: to answer, to stream, to be judged."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rlhf.chat import (
    decode_response,
    encode_prompt,
    encode_response,
    sign_in,
    stop_token_ids,
)
from rlhf.config import ModelConfig
from rlhf.errors import DataError, ModelError
from rlhf.model.bases import Actor, Bases
from rlhf.model.engine.batched_streaming import Growing, Together, may_mix
from rlhf.model.engine.generate import Sampling, noise, sample_ids
from rlhf.model.scoring import response_logits
from rlhf.model.start import Start
from rlhf.records import Message, Prompt
from rlhf.runs import is_run

OnProgress = Callable[[int], object]
_BATCH = 64
_MOST_LOGITS = 1 << 26
"""Numbers in one tensor of logits; 64 rows of a vocabulary of 128,000 would fill a GPU."""


class Policies:
    """Named policies that answer prompts; see :func:`load_policies`."""

    def __init__(self, actors: dict[str, Actor]) -> None:
        self._actors = actors
        self._together: dict[tuple[int, str | None], Together] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were asked for."""
        return tuple(self._actors)

    def sample(
        self,
        name: str,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: OnProgress | None = None,
    ) -> list[list[int]]:
        """One response per prompt, as token ids."""
        actor = self._actors[name]
        ids = [encode_prompt(actor.tokenizer, prompt) for prompt in prompts]
        with actor.acting() as model:
            return sample_ids(model, actor.tokenizer, ids, sampling, on_progress)

    def respond(
        self,
        name: str,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: OnProgress | None = None,
    ) -> list[str]:
        """One response per prompt, as text."""
        return self.decode(name, self.sample(name, prompts, sampling, on_progress))

    def encode(self, name: str, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Prompts as ``name`` reads them."""
        return [encode_prompt(self._actors[name].tokenizer, prompt) for prompt in prompts]

    def decode(self, name: str, responses: Sequence[Sequence[int]]) -> list[str]:
        """What ``name`` sampled, as text."""
        tokenizer = self._actors[name].tokenizer
        return [decode_response(tokenizer, ids) for ids in responses]

    def finished(self, name: str, responses: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each response that ``name`` sampled ended by itself and was not cut off."""
        stops = set(stop_token_ids(self._actors[name].tokenizer))
        return [bool(ids) and ids[-1] in stops for ids in responses]

    def room(self, name: str, prompt: Prompt) -> int:
        """How many tokens still fit into the model's context after ``prompt``."""
        actor = self._actors[name]
        return actor.context_length - len(encode_prompt(actor.tokenizer, prompt))

    def same_tokens(self, name: str, other: str) -> bool:
        """Whether two policies write with the same tokens, so that a KL between them exists."""
        ours, theirs = self._actors[name].tokenizer, self._actors[other].tokenizer
        return ours.get_vocab() == theirs.get_vocab()

    def stream(
        self, name: str, messages: Sequence[Message], sampling: Sampling | None = None
    ) -> Generator[str]:
        """The response as it grows; those that stream at the same time on one base share a batch.

        Raises:
            DataError: the prompt leaves no room in the model's context, or forges turns.
        """
        sampling = sampling or Sampling(max_new_tokens=256)
        actor = self._actors[name]
        if sign := sign_in(actor.tokenizer, messages):
            raise DataError(
                f"a prompt cannot hold {sign}, with which the model marks turns; write it otherwise"
            )
        ids = encode_prompt(actor.tokenizer, Prompt(tuple(messages)))
        most = min(sampling.max_new_tokens, actor.context_length - len(ids))
        if most < 1:
            raise DataError("the prompt leaves the model no room to answer; shorten it")
        if actor.learns_prompt:
            with actor.acting() as model:
                short = replace(sampling, max_new_tokens=most)
                [response] = sample_ids(model, actor.tokenizer, [ids], short)
            yield decode_response(actor.tokenizer, response)
            return
        stops = frozenset(stop_token_ids(actor.tokenizer))
        chances = noise(1, sampling)[0, :most]
        row = Growing(actor, ids, chances, sampling.temperature, stops)
        for response in self._together_with(actor).grow(row):
            yield decode_response(actor.tokenizer, response)
        if not row.ids:
            yield ""

    def _together_with(self, actor: Actor) -> Together:
        """Those who may share a batch with ``actor``; the others on its base take turns."""
        alone = None if may_mix(actor) else actor.adapter
        return self._together.setdefault((id(actor.base), alone), Together())

    def kl(
        self,
        name: str,
        reference: str,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        on_progress: OnProgress | None = None,
    ) -> list[float]:
        """KL from ``reference``, in nats per response, on responses that ``name`` sampled.

        At each place the two distributions over the vocabulary are compared in full, which has
        the same mean as the ratio of the sampled tokens and far less variance (Amini et al.
        2025, "Better estimation of the KL divergence between language models").
        """
        ours, theirs = self._actors[name], self._actors[reference]
        result: list[float] = []
        size = _batch_size(ours, responses)
        for start in range(0, len(prompts), size):
            chunk = slice(start, start + size)
            ids = [encode_prompt(ours.tokenizer, prompt) for prompt in prompts[chunk]]
            batch = ours.sequences(ids, responses[chunk])
            with ours.acting() as model:
                p = response_logits(model, batch).log_softmax(dim=-1)
            with theirs.acting() as model:
                q = response_logits(model, batch).log_softmax(dim=-1)
            per_token = (p.exp() * (p - q)).sum(dim=-1).where(batch.response_mask, 0.0)
            result += per_token.sum(dim=1).tolist()
            if on_progress is not None:
                on_progress(len(ids))
        return result

    def nll(
        self, name: str, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> list[tuple[float, int]]:
        """Negative log-likelihood of each response in nats, and over how many tokens."""
        actor = self._actors[name]
        result: list[tuple[float, int]] = []
        pairs = zip(prompts, texts, strict=True)
        encoded = [encode_response(actor.tokenizer, prompt, text) for prompt, text in pairs]
        size = _batch_size(actor, encoded)
        for start in range(0, len(prompts), size):
            ids = [encode_prompt(actor.tokenizer, p) for p in prompts[start : start + size]]
            responses = encoded[start : start + size]
            batch = actor.sequences(ids, responses)
            with actor.acting() as model:
                taken = response_logits(model, batch).log_softmax(dim=-1)
            taken = taken.gather(2, batch.response_ids[..., None]).squeeze(2)
            sums = taken.where(batch.response_mask, 0.0).sum(dim=1)
            result += [(-s, len(r)) for s, r in zip(sums.tolist(), responses, strict=True)]
        return result


def load_policies(paths: Sequence[str | Path], bases: Bases | None = None) -> Policies:
    """Policies from finished runs, or bases, on as few bases in memory as possible.

    Each is named by its folder, with those above it where names would be the
    same. A base is loaded as the first run on it was; without one, in nf4.

    Raises:
        RunError: a folder is a run of another stage, or unfinished.
        ModelError: a policy is named twice, or a model cannot be loaded.
    """
    bases = bases or Bases()
    named = _named([str(path) for path in paths])
    runs = {name: Start.of_run(path) for name, path in named.items() if is_run(path)}
    starts = {n: runs[n] if n in runs else _bare(path, runs.values()) for n, path in named.items()}
    return Policies({name: bases.actor(start) for name, start in starts.items()})


def _named(paths: Sequence[str]) -> dict[str, str]:
    """Each path by as many of its last parts as tell it from the others."""
    parts = [Path(path).parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ModelError(f"{', '.join(paths)}: the same policy is named twice; name it once")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise AssertionError(paths)


def _batch_size(actor: Actor, responses: Sequence[Sequence[int]]) -> int:
    """How many rows may have their logits in memory at once."""
    per_row = actor.model.config.get_text_config().vocab_size * max(map(len, responses), default=1)
    return max(1, min(_BATCH, _MOST_LOGITS // max(1, per_row)))


def _bare(path: str, others: Iterable[Start]) -> Start:
    """The base at ``path``, stored as the others on it are."""
    start = Start.of_config(ModelConfig(base=path))
    for other in others:
        if other.fingerprint == start.fingerprint:
            return Start(other.spec, start.tuning, path, other.fingerprint)
    return start
