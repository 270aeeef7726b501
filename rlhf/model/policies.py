"""Several finished runs on as few bases as possible: to answer, to stream, to be judged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from transformers.cache_utils import DynamicCache

from rlhf.chat import decode_response, encode_prompt, encode_response, stop_token_ids
from rlhf.config import ModelConfig
from rlhf.errors import ModelError
from rlhf.model.bases import Actor, Bases
from rlhf.model.generate import Sampling, sample_ids
from rlhf.model.scoring import response_logits
from rlhf.model.start import Start
from rlhf.records import Message, Prompt
from rlhf.runs import is_run

OnProgress = Callable[[int], object]
_BATCH = 64


class Policies:
    """Named policies that answer prompts; see :func:`load_policies`."""

    def __init__(self, actors: dict[str, Actor]) -> None:
        self._actors = actors

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
        tokenizer = self._actors[name].tokenizer
        drawn = self.sample(name, prompts, sampling, on_progress)
        return [decode_response(tokenizer, ids) for ids in drawn]

    def stream(
        self, name: str, messages: Sequence[Message], sampling: Sampling | None = None
    ) -> Iterator[str]:
        """The response as it grows, token by token; several may stream at the same time."""
        sampling = sampling or Sampling(max_new_tokens=256)
        actor = self._actors[name]
        ids = encode_prompt(actor.tokenizer, Prompt(tuple(messages)))
        if actor.learns_prompt:
            with actor.acting() as model:
                [response] = sample_ids(model, actor.tokenizer, [ids], sampling)
            yield decode_response(actor.tokenizer, response)
        else:
            yield from _stream(actor, ids, sampling)

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
        for start in range(0, len(prompts), _BATCH):
            chunk = slice(start, start + _BATCH)
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
        for start in range(0, len(prompts), _BATCH):
            chunk = list(
                zip(prompts[start : start + _BATCH], texts[start : start + _BATCH], strict=True)
            )
            ids = [encode_prompt(actor.tokenizer, prompt) for prompt, _ in chunk]
            responses = [encode_response(actor.tokenizer, prompt, text) for prompt, text in chunk]
            batch = actor.sequences(ids, responses)
            with actor.acting() as model:
                taken = response_logits(model, batch).log_softmax(dim=-1)
            taken = taken.gather(2, batch.response_ids[..., None]).squeeze(2)
            sums = taken.where(batch.response_mask, 0.0).sum(dim=1)
            result += [(-s, len(r)) for s, r in zip(sums.tolist(), responses, strict=True)]
        return result


def load_policies(paths: Sequence[str | Path], bases: Bases | None = None) -> Policies:
    """Policies from finished runs, or bases, on as few bases in memory as possible.

    Each is named by its folder. A base is loaded as the first run on it was; without one, in nf4.

    Raises:
        RunError: a folder is a run of another stage, or unfinished.
        ModelError: two policies would have the same name, or a model cannot be loaded.
    """
    bases = bases or Bases()
    starts: dict[str, Start] = {}
    for path in map(str, paths):
        name = Path(path).name
        if name in starts:
            raise ModelError(f"two policies are called {name!r}; rename one of the folders")
        starts[name] = Start.of_run(path) if is_run(path) else _bare(path, starts.values())
    return Policies({name: bases.actor(start) for name, start in starts.items()})


def _bare(path: str, others: Iterable[Start]) -> Start:
    """The base at ``path``, stored as the others on it are."""
    start = Start.of_config(ModelConfig(base=path))
    for other in others:
        if other.fingerprint == start.fingerprint:
            return Start(other.spec, start.tuning, path, other.fingerprint)
    return start


def _stream(actor: Actor, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
    """Token by token, the lock held for one token only, so that two policies can take turns."""
    stops = set(stop_token_ids(actor.tokenizer))
    cache = DynamicCache()
    fresh, response = list(prompt), list[int]()
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(actor.model.device).manual_seed(sampling.seed)
    while len(response) < sampling.max_new_tokens:
        with actor.acting() as model:
            ids = torch.tensor([fresh], device=model.device)
            logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1]
        if sampling.temperature > 0:
            likely = (logits.float() / sampling.temperature).softmax(dim=-1)
            token = int(torch.multinomial(likely, 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token in stops:
            break
        response.append(token)
        fresh = [token]
        yield decode_response(actor.tokenizer, response)
    if not response:
        yield ""
