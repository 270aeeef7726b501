"""Messages to token ids and back: the only tokenisation in the project.

Every stage sees the same ids: a prompt ends where the response starts, and a response ends exactly
with the end token, so that what a reward model was trained on is what PPO hands it.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from rlhf.errors import DataError, ModelError
from rlhf.records import Message, Prompt

IGNORED = -100
"""Label of a token that the loss does not count."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}:\n"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
"""For tokenizers that bring no chat template; it needs no special token but the end."""


def render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], *, respond: bool
) -> str:
    """The messages as the chat template writes them; ``respond`` opens the assistant's turn.

    Raises:
        DataError: the template refuses the conversation (some know no system role).
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=respond)
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise DataError(
            f"the tokenizer's chat template refuses a conversation of {roles} ({error}); "
            "reorder the turns, or put a system message into the first user turn"
        ) from error
    assert isinstance(text, str)
    return text


@lru_cache(maxsize=8)
def end_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that ends an assistant turn: the first special one that the template puts there.

    Raises:
        ModelError: neither the template nor the tokenizer has one.
    """
    mark = "\u2042"
    turns = (Message("user", mark), Message("assistant", mark))
    suffix = render(tokenizer, turns, respond=False).rpartition(mark)[2]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for token in _ids(tokenizer, suffix):
        if token in special:
            return token
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise ModelError(
            f"{tokenizer.name_or_path}: no token ends a response; set eos_token in the tokenizer"
        )
    return eos


def stop_token_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Every token at which sampling stops: the end of a turn, and the end of text."""
    eos = tokenizer.eos_token_id
    return sorted({end_token_id(tokenizer), *([eos] if isinstance(eos, int) else [])})


def encode_prompt(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """Ids up to where the response starts."""
    return _ids(tokenizer, render(tokenizer, prompt.messages, respond=True))


def encode_response(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, text: str) -> list[int]:
    """Ids of ``text`` as they stand after ``prompt``, closed by the end token.

    Where a tokenizer would merge across the boundary, the response is encoded by itself, so that
    the prompt's ids are always a prefix of the whole.
    """
    head = render(tokenizer, prompt.messages, respond=True)
    prompt_ids, joint = _ids(tokenizer, head), _ids(tokenizer, head + text)
    if joint[: len(prompt_ids)] == prompt_ids:
        response = joint[len(prompt_ids) :]
    else:
        response = _ids(tokenizer, text)
    return [*response, end_token_id(tokenizer)]


def encode_demonstration(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]
) -> tuple[list[int], list[int]]:
    """Ids of a conversation up to its last assistant turn, and labels that count those turns only.

    Where the template rewrites earlier turns once later ones follow (Qwen3 drops old thoughts),
    the earlier turns no longer read as they were generated and are not counted.

    Raises:
        DataError: no assistant turn.
    """
    ids: list[int] = []
    labels: list[int] = []
    for turn, message in enumerate(messages):
        if message.role != "assistant":
            continue
        prompt = Prompt(tuple(messages[:turn]))
        head = encode_prompt(tokenizer, prompt)
        response = encode_response(tokenizer, prompt, message.content)
        counted = labels if head[: len(ids)] == ids else []
        labels = [*counted, *[IGNORED] * (len(head) - len(counted)), *response]
        ids = [*head, *response]
    if not ids:
        raise DataError("a demonstration needs an assistant turn")
    return ids, labels


def sign_in(tokenizer: PreTrainedTokenizerFast, messages: Iterable[Message]) -> str | None:
    """The first special token spelled out in what a user says, if any.

    It would be encoded as that token: who types it could write turns of the system or the model.
    """
    signs = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    texts = [message.content for message in messages if message.role == "user"]
    return next((sign for sign in signs for text in texts if sign in text), None)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of plain text, closed by the end of text."""
    ids = tokenizer(text)["input_ids"]
    assert isinstance(ids, list)
    eos = tokenizer.eos_token_id
    return [*ids, eos] if isinstance(eos, int) and ids[-1:] != [eos] else ids


def decode_response(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text before the first stop token, without special tokens.

    A NUL, which a byte-level model may well sample and no record holds, is shown as unreadable.
    """
    stops = set(stop_token_ids(tokenizer))
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    text = tokenizer.decode(list(ids[:end]), skip_special_tokens=True)
    assert isinstance(text, str)
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert isinstance(ids, list)
    return ids


def encode_completion(
    tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str
) -> tuple[list[int], list[int]]:
    """Ids of a raw text in two halves, and labels that count the second only.

    Nothing is added: special tokens are those that the text spells out.
    """
    head, tail = _ids(tokenizer, prompt), _ids(tokenizer, completion)
    return [*head, *tail], [*[IGNORED] * len(head), *tail]
