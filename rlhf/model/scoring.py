"""What models say about token ids: logprobs of responses, and scores and values from the trunk.

Rows are padded on the right, and a logprob is that of a token given all
that stands before it, at the temperature that it was sampled with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction

from rlhf.model.heads import ScoreHead

Ids = Int[Tensor, "batch seq"]
Mask = Bool[Tensor, "batch seq"]
PerToken = Float[Tensor, "batch response"]
PerResponse = Float[Tensor, " batch"]

_MANY_LOGITS = 1 << 25
"""More numbers than this (128 MiB) are not held at once; below, holding them is faster."""
_CHUNK = 8192
"""Tokens of the vocabulary at a time."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Prompts with their responses, ready for a forward pass.

    ``ids`` and ``mask`` are (batch, seq), padded on the right. ``where`` (batch, response) is the
    place of each response token in its row, and ``response_mask`` tells which exist.
    """

    ids: Ids
    mask: Mask
    where: Int[Tensor, "batch response"]
    response_mask: Bool[Tensor, "batch response"]

    @property
    def response_ids(self) -> Int[Tensor, "batch response"]:
        """The response tokens; anything where ``response_mask`` is False."""
        return self.ids.gather(1, self.where)

    @property
    def last(self) -> Int[Tensor, " batch"]:
        """Place of each row's last token."""
        return self.mask.sum(dim=1) - 1


def sequences(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    pad_id: int,
    device: torch.device,
) -> Sequences:
    """Join prompts and responses, row by row.

    Padding is told by length, never by ``pad_id``, so a pad token that was sampled is a token.
    """
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    width = max(map(len, rows))
    longest = max(1, max(map(len, responses)))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    starts = torch.tensor([len(p) for p in prompts])[:, None]
    lengths = torch.tensor([len(r) for r in responses])[:, None]
    mask = torch.arange(width)[None] < starts + lengths
    steps = torch.arange(longest)[None]
    where = (starts + steps).clamp(max=width - 1)
    return Sequences(*(t.to(device) for t in (ids, mask, where, steps < lengths)))


def hidden_states(
    model: PreTrainedModel | PeftModel, ids: Ids
) -> Float[Tensor, "batch seq hidden"]:
    """Last hidden states of the trunk, below the output embeddings, by the active adapter.

    No token sees what stands on its right, so the model is told nothing of the padding there: its
    kernels of attention are faster without a mask.
    """
    return trunk(model)(input_ids=ids, use_cache=False).last_hidden_state


def trunk(model: PreTrainedModel | PeftModel) -> nn.Module:
    """The model below its output embeddings."""
    assert not learns_prompt(model), "a learned prefix enters above the trunk, in PEFT's forward"
    return _base(model).base_model


def learns_prompt(model: PreTrainedModel | PeftModel) -> bool:
    """Whether what acts on ``model`` is a learned prefix."""
    if not isinstance(model, PeftModel) or model._adapters_disabled:  # pyright: ignore[reportPrivateUsage]
        return False
    return model.active_peft_config.is_prompt_learning


def response_states(
    model: PreTrainedModel | PeftModel, batch: Sequences
) -> Float[Tensor, "batch response hidden"]:
    """The trunk's states in which each response token was chosen."""
    return _before_response(hidden_states(model, batch.ids), batch)


def logprobs(
    model: PreTrainedModel | PeftModel, batch: Sequences, *, temperature: float = 1.0
) -> PerToken:
    """Log-probability of each response token, in fp32; 0 where there is none."""
    return token_logprobs(model, response_states(model, batch), batch, temperature=temperature)


def token_logprobs(
    model: PreTrainedModel | PeftModel,
    states: Float[Tensor, "batch response hidden"],
    batch: Sequences,
    *,
    temperature: float = 1.0,
) -> PerToken:
    """:func:`logprobs` from states that are there already.

    Only tokens that exist meet the vocabulary; where their logits would be large they are never
    held at once, in no direction (TRL's chunked kernel).
    """
    taken, _ = _of_tokens(model, states, batch, temperature, ())
    return _per_token(taken, batch)


def token_logprobs_entropies(
    model: PreTrainedModel | PeftModel,
    states: Float[Tensor, "batch response hidden"],
    batch: Sequences,
    *,
    temperature: float = 1.0,
) -> tuple[PerToken, PerToken]:
    """:func:`token_logprobs`, and the entropy of the distribution that each token is from."""
    taken, entropy = _of_tokens(model, states, batch, temperature, ("entropy",))
    assert entropy is not None
    return _per_token(taken, batch), _per_token(entropy, batch)


def _of_tokens(
    model: PreTrainedModel | PeftModel,
    states: Float[Tensor, "batch response hidden"],
    batch: Sequences,
    temperature: float,
    besides: tuple[str, ...],
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"] | None]:
    there = batch.response_mask
    states, tokens = states[there], batch.response_ids[there]
    output = cast("nn.Linear", _base(model).get_output_embeddings())
    if type(output) is nn.Linear and len(tokens) * len(output.weight) > _MANY_LOGITS:
        of_output = (
            output.weight,
            output.bias,
            tokens,
            temperature,
            _CHUNK,
            _cap(model),
            _scale(model),
        )
        taken, entropy, *_ = ChunkedLogProbFunction.apply(states, *of_output, besides)
        return taken, entropy
    logits = at_temperature(next_logits(model, states), temperature)
    return taken_logprobs(logits, tokens), entropies(logits) if besides else None


def at_temperature(logits: Float[Tensor, "*any"], temperature: float) -> Float[Tensor, "*any"]:
    """Logits whose softmax is sampled from."""
    return logits if temperature == 1 else logits / temperature


def _per_token(x: Float[Tensor, " tokens"], batch: Sequences) -> PerToken:
    """The numbers of the tokens that exist in their places, and 0 in the others."""
    nothing = torch.zeros(batch.response_mask.shape, device=x.device)
    return nothing.masked_scatter(batch.response_mask, x)


def taken_logprobs(
    logits: Float[Tensor, "any vocab"], tokens: Int[Tensor, " any"]
) -> Float[Tensor, " any"]:
    """Log-probability of each token by the logits that it was drawn from."""
    return logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(dim=-1)


def entropies(logits: Float[Tensor, "any vocab"]) -> Float[Tensor, " any"]:
    """Entropy in nats of each row's distribution."""
    logsumexp = logits.logsumexp(dim=-1, keepdim=True)
    return logsumexp.squeeze(1) - ((logits - logsumexp).exp() * logits).sum(dim=-1)


def response_logits(
    model: PreTrainedModel | PeftModel, batch: Sequences
) -> Float[Tensor, "batch response vocab"]:
    """The logits from which each response token was drawn, in fp32."""
    if learns_prompt(model):
        # the learned prefix enters in PEFT's forward, and its places come first in the logits
        logits = model(input_ids=batch.ids, attention_mask=batch.mask.long()).logits.float()
        return _before_response(logits[:, -batch.ids.shape[1] :], batch)
    return next_logits(model, response_states(model, batch))


def next_logits(
    model: PreTrainedModel | PeftModel, states: Float[Tensor, "*any hidden"]
) -> Float[Tensor, "*any vocab"]:
    """The logits that follow from the trunk's last hidden states, in fp32."""
    output = _base(model).get_output_embeddings()
    assert isinstance(output, nn.Module)
    logits, scale, cap = output(states).float(), _scale(model), _cap(model)
    logits = logits if scale == 1 else logits * scale
    return logits if cap is None else (logits / cap).tanh() * cap


def scores(model: PreTrainedModel | PeftModel, head: ScoreHead, batch: Sequences) -> PerResponse:
    """One score per row, read at its last token, whatever that token is."""
    states = hidden_states(model, batch.ids)
    rows = torch.arange(len(states), device=states.device)
    return head(states[rows, batch.last]).squeeze(1)


def values(model: PreTrainedModel | PeftModel, head: ScoreHead, batch: Sequences) -> PerToken:
    """The value of the state in which each response token was chosen."""
    return head(response_states(model, batch)).squeeze(2)


def _before_response(
    x: Float[Tensor, "batch seq any"], batch: Sequences
) -> Float[Tensor, "batch response any"]:
    """``x`` where each response token is about to be chosen."""
    before = (batch.where - 1).clamp(min=0)
    return x.gather(1, before[..., None].expand(-1, -1, x.shape[2]))


def _scale(model: PreTrainedModel | PeftModel) -> float:
    """What logits are multiplied by, under the names of Cohere, Falcon-H1 and Granite."""
    config = _base(model).config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            return scale
    scale = getattr(config, "logits_scaling", None) or 1.0
    return scale if config.model_type == "hyperclovax" else 1 / scale


def _cap(model: PreTrainedModel | PeftModel) -> float | None:
    """Gemma's bound on logits."""
    return getattr(_base(model).config.get_text_config(), "final_logit_softcapping", None)


def _base(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(base, PreTrainedModel)
    return base
