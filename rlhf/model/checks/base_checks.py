"""What a base must be: causal, whole, stored as asked for, and with a row for every token."""

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from torch import Tensor, nn
from transformers import (
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf.chat import fixed_token_ids
from rlhf.errors import DataError, ModelError
from rlhf.model.scoring import hidden_states, next_logits

_OTHER_HEADS = (
    "MaskedLM",
    "MultipleChoice",
    "QuestionAnswering",
    "RewardModel",
    "SequenceClassification",
    "TokenClassification",
)
_ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""What rounding may move of an earlier token's logits, as a share of what the last token's move.

It moves them at all where the tokens of a batch are regrouped by what they are: among experts, and
by the outliers of int8.
"""
_CONTEXTS, _LENGTH = 2, 8
_NUM_NAMED = 3


def refuse_other_kinds(config: PreTrainedConfig, path: str) -> None:
    """Refuse by the config alone what is no causal language model.

    Raises:
        ModelError: an encoder-decoder, or a checkpoint that was saved with another head.
    """
    if config.is_encoder_decoder:
        raise ModelError(
            f"{path}: {config.model_type} is an encoder-decoder, and only a causal language model "
            "can be trained and sampled here; take a decoder-only base"
        )
    for name in config.architectures or []:
        if name.endswith(_OTHER_HEADS):
            raise ModelError(
                f"{path}: holds a {name}, which is no causal language model; "
                "take the base that it was made from (…ForCausalLM)"
            )


def refuse_other_storage(
    stored: object, asked: BitsAndBytesConfig | None, path: str
) -> BitsAndBytesConfig:
    """What is ``asked`` for, if a base that is quantised already is stored in that way.

    The dtype that products are taken in is no part of it. ``stored`` is the ``quantization_config``
    of the base's config.

    Raises:
        ModelError: it is stored otherwise, or ``asked`` is None and it should not be quantised.
    """
    found = _settings(stored)
    kind = found.get("bnb_4bit_quant_type") if found.get("load_in_4bit") else None
    method = kind or found.get("quant_method", "an unknown storage")
    if asked is None or not asked.load_in_4bit:
        raise ModelError(
            f"{path}: is stored quantised already ({method}), which cannot be undone; "
            "give the base in 16 or 32 bits, or use tuning: qlora if it is stored in nf4"
        )
    wanted = _settings(asked.to_dict())
    other = [
        f"{key}: {found.get(key)} instead of {wanted[key]}"
        for key in ("quant_method", *_FOUR_BITS)
        if found.get(key) != wanted[key]
    ]
    if other:
        raise ModelError(
            f"{path}: is stored quantised already, and not in our nf4 ({'; '.join(other)}); "
            "give the base in 16 or 32 bits, which is then stored as nf4 when it is loaded"
        )
    return asked


_FOUR_BITS = (
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "bnb_4bit_quant_storage",
    "llm_int8_skip_modules",
)


def _settings(config: object) -> dict[str, Any]:
    values = config if isinstance(config, Mapping) else cast("Any", config).to_dict()
    return {key: getattr(value, "value", value) for key, value in cast("Any", values).items()}


def refuse_other_tensors(
    missing: Collection[str], unexpected: Collection[str], place: str, remedy: str
) -> None:
    """Refuse weights that are not those of the model: what is missing would be random.

    Raises:
        ModelError: some are missing, or there is no place for them.
    """
    wrong = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if wrong:
        raise ModelError(
            f"{place}: tensors are not those of the model: {', '.join(wrong)}; {remedy}"
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_NUM_NAMED]) + (", …" if len(names) > _NUM_NAMED else "")


def refuse_incomplete(model: PreTrainedModel, loading: Mapping[str, Any], path: str) -> None:
    """Refuse a base some of whose weights were not in its checkpoint, or the reverse.

    ``loading`` is Transformers' ``output_loading_info``, which knows of tied weights. Of quantised
    layers it does not know the shapes.

    Raises:
        ModelError: tensors are missing, unexpected or of another shape.
    """
    refuse_other_tensors(
        loading["missing_keys"],
        loading["unexpected_keys"],
        path,
        f"a {type(model).__name__} with all of its weights is needed",
    )
    other = {str(key[0]) for key in loading["mismatched_keys"]}
    other |= {
        f"{name}.weight"
        for name, layer in model.named_modules()
        if isinstance(layer, (Linear4bit, Linear8bitLt))
        and _shape(layer) != (layer.out_features, layer.in_features)
    }
    if other:
        raise ModelError(
            f"{path}: {len(other)} tensors have another shape than config.json says "
            f"({_some(other)}); put the config back that the weights were saved with"
        )


def refuse_nothing_quantized(model: PreTrainedModel, storage: str, path: str) -> None:
    """Refuse to call a base quantised none of whose layers is.

    Raises:
        ModelError: bitsandbytes knows none of its layers (Falcon's are a class of their own).
    """
    if not any(isinstance(layer, (Linear4bit, Linear8bitLt)) for layer in model.modules()):
        raise ModelError(
            f"{path}: no layer of a {type(model).__name__} can be stored as {storage}, "
            "bitsandbytes knows none of them; use tuning: lora, or another base"
        )


def _shape(layer: Linear4bit | Linear8bitLt) -> tuple[int, ...]:
    if isinstance(layer, Linear4bit):
        return tuple(cast("Any", layer.weight).quant_state.shape)
    return tuple(layer.weight.shape)


def refuse_other_logits(model: PreTrainedModel, path: str) -> None:
    """Refuse a base whose logits are not what every stage takes them for, by a short forward.

    Those of earlier tokens must not depend on the last one, and they must be what
    :func:`~rlhf.model.scoring.next_logits` makes of the trunk's states.

    Raises:
        ModelError: they are not, or it cannot compute at all as it is stored.
    """
    vocabulary = model.config.get_text_config().vocab_size
    ids = (
        torch.arange(_CONTEXTS * _LENGTH).view(_CONTEXTS, _LENGTH) + vocabulary // 3
    ) % vocabulary
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + vocabulary // 2) % vocabulary
    ids = torch.cat([ids, other]).to(model.device)
    logits, ours = _logits(model, ids, path)
    if logits.isnan().any():
        raise ModelError(
            f"{path}: its logits are not numbers; its weights are broken, or need model.dtype: "
            "float32"
        )
    # infinite logits, with which some bases bar tokens, do not move
    moved = (logits[:_CONTEXTS] - logits[_CONTEXTS:]).nan_to_num(0.0).abs().amax(dim=-1)
    int8 = any(isinstance(layer, Linear8bitLt) for layer in model.modules())
    rounding = _ROUNDING[torch.bfloat16 if int8 else model.dtype] * moved[:, -1]
    # a choice of experts may turn on rounding in one context, but not in every one
    if (moved[:, :-1].amax(dim=1) > rounding).all():
        raise ModelError(
            f"{path}: {type(model).__name__} is not causal: its last token moves the logits of "
            f"earlier ones (by up to {moved[:, :-1].max():.2g}), so it would be trained with sight "
            "of the answer; take a decoder-only base"
        )
    if (apart := (logits - ours).nan_to_num(0.0).abs().max()) > rounding.max():
        raise ModelError(
            f"{path}: {type(model).__name__} makes its logits in a way that is not known here (by "
            f"up to {apart:.2g} from its output layer's), so it would be trained on wrong "
            "probabilities; take another base"
        )


def _logits(model: PreTrainedModel, ids: Tensor, path: str) -> tuple[Tensor, Tensor]:
    """The model's own logits, and ours."""
    mask = torch.ones_like(ids)
    try:
        with torch.no_grad():
            own = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            return own, next_logits(model, hidden_states(model, ids))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{path}: {type(model).__name__} cannot compute as it is stored ({reason}); "
            "use tuning: lora, which quantises nothing, or another base"
        ) from error


def refuse_unknown_tokens(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that belongs to another base: the embedding has no row for its ids.

    Special tokens that the template does not write may lie beyond the embedding (Gemma 3's for
    images, at 1B). A row that holds one is refused when it comes.

    Raises:
        ModelError: ids of ordinary text, or of the marks of turns, lie beyond it.
    """
    embedding = cast("nn.Embedding", model.get_input_embeddings())
    rows = embedding.weight.shape[0]
    if max(tokenizer.get_vocab().values()) < rows:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = set(tokenizer.get_vocab().values()) - special | fixed_token_ids(tokenizer)
    beyond = sorted(i for i in used if i >= rows)
    if beyond:
        raise ModelError(
            f"{tokenizer.name_or_path}: {len(beyond)} tokens lie beyond the base's embedding of "
            f"{rows} rows ({', '.join(map(repr, _named(tokenizer, beyond)))}); give the tokenizer "
            "that belongs to the base, or resize its embedding (resize_token_embeddings)"
        )

    def refuse(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if int(args[0].max()) >= rows:
            [token] = _named(tokenizer, [int(args[0].max())])
            raise DataError(
                f"a row holds {token!r}, for which the base has no embedding; write it otherwise"
            )

    embedding.register_forward_pre_hook(refuse)


def _named(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    return cast("list[str]", tokenizer.convert_ids_to_tokens(ids[:_NUM_NAMED]))
