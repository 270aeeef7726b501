"""A base from nothing: a tokenizer trained on text, and random weights of any architecture."""

from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf.errors import ConfigError

TURN, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML, with the marks that tell which tokens the assistant generates."""

# Digits one by one: numbers that nobody has seen are still made of tokens that everybody has.
_PIECES = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"


def new_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for chats, of at most ``vocab_size`` tokens."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in _unmarked(text)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _unmarked(text: str) -> list[str]:
    """The text between special tokens, so that their letters earn no place in the vocabulary."""
    return text.replace(TURN, END).split(END)


def new_model(architecture: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A causal model with random fp32 weights, its vocabulary and special tokens the tokenizer's.

    Raises:
        ConfigError: Transformers knows no such model, or not with these arguments.
    """
    arguments = dict(architecture)
    model_type = arguments.pop("model_type", None)
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    try:
        config = AutoConfig.for_model(model_type, **(tokens | arguments))
        model = AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # the first sentence; Transformers goes on with every architecture that there is
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ConfigError(
            f"architecture: no causal model can be made of it ({reason}); give `model_type: llama` "
            "(or another of Transformers) and its sizes"
        ) from error
    _refuse_unknown(arguments, config)
    return model


def _refuse_unknown(arguments: dict[str, Any], config: PretrainedConfig) -> None:
    """Transformers keeps a misspelt size as an attribute that nothing reads."""
    known = set(type(config)().to_dict())
    unknown = sorted(arguments.keys() - known)
    if unknown:
        raise ConfigError(
            f"architecture: {config.model_type} knows no `{unknown[0]}`; see the arguments of "
            f"{type(config).__name__}"
        )
