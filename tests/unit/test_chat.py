import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlhf.chat import (
    IGNORED,
    PLAIN_TEMPLATE,
    decode_response,
    encode_completion,
    encode_demonstration,
    encode_prompt,
    encode_response,
    encode_text,
    end_token_id,
    plain_template,
    stop_token_ids,
)
from rlhf.errors import DataError
from rlhf.records import Message, Prompt

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ 'gone' if m.role == 'assistant' and not loop.last else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def bytes_tokenizer(template: str, specials=("<|im_start|>", "<|im_end|>", "<eos>"), **kwargs):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, "ab", *specials])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", extra_special_tokens=list(specials), **kwargs
    )
    tokenizer.chat_template = template
    return tokenizer


chatml = bytes_tokenizer(CHATML)
plain = bytes_tokenizer(PLAIN_TEMPLATE)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).filter(
    lambda t: "<" not in t
)


def conversation(*texts: str) -> list[Message]:
    """User and assistant in turn."""
    return [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]


def one(token: str, tokenizer=chatml) -> int:
    return tokenizer.get_vocab()[token]


def test_the_template_names_the_end_token_even_where_eos_is_another():
    assert end_token_id(chatml) == one("<|im_end|>")
    assert end_token_id(plain) == one("<eos>", plain)
    assert stop_token_ids(chatml) == sorted({one("<|im_end|>"), one("<eos>")})


def test_a_response_ends_exactly_with_the_end_token_and_has_no_template_suffix():
    ids = encode_response(chatml, Prompt.from_text("hi"), "yo")
    assert ids == [one("y"), one("o"), one("<|im_end|>")]


def test_a_merge_across_the_boundary_leaves_the_prompt_a_prefix():
    tokenizer = bytes_tokenizer("{{ messages[0].content }}")
    prompt = Prompt.from_text("a")
    assert encode_prompt(tokenizer, prompt) == [one("a", tokenizer)]
    assert encode_response(tokenizer, prompt, "b")[0] == one("b", tokenizer)


@given(text, text)
@settings(deadline=None)
def test_decoding_a_response_gives_its_text_back(question, answer):
    for tokenizer in (chatml, plain):
        ids = encode_response(tokenizer, Prompt.from_text(question), answer)
        assert decode_response(tokenizer, ids) == answer


@given(text, text.filter(str.strip))
@settings(deadline=None)
def test_a_demonstration_is_its_prompt_and_its_response(question, answer):
    prompt = Prompt.from_text(question)
    ids, labels = encode_demonstration(
        chatml, [Message("user", question), Message("assistant", answer)]
    )
    head, response = encode_prompt(chatml, prompt), encode_response(chatml, prompt, answer)
    assert ids == head + response
    assert labels == [IGNORED] * len(head) + response


def test_every_assistant_turn_counts_with_its_end_token_and_nothing_else():
    turns = conversation("q", "r", "s", "t")
    ids, labels = encode_demonstration(chatml, turns)
    assert [i for i in labels if i != IGNORED] == [
        one("r"), one("<|im_end|>"), one("t"), one("<|im_end|>"),
    ]  # fmt: skip
    assert all(a in (b, IGNORED) for a, b in zip(labels, ids, strict=True))
    assert ids[-1] == one("<|im_end|>")


def test_a_turn_that_the_template_rewrites_later_is_not_counted():
    tokenizer = bytes_tokenizer(FORGETFUL)
    turns = conversation("q", "r", "s", "t")
    ids, labels = encode_demonstration(tokenizer, turns)
    assert [i for i in labels if i != IGNORED] == [one("t"), one("<|im_end|>")]
    assert "gone" in tokenizer.decode(ids)


def test_where_pad_is_the_end_of_text_the_end_token_still_has_a_label():
    tokenizer = bytes_tokenizer(PLAIN_TEMPLATE, pad_token="<eos>")
    _, labels = encode_demonstration(tokenizer, [Message("user", "q"), Message("assistant", "r")])
    assert labels[-1] == tokenizer.pad_token_id


def test_plain_text_is_closed_once():
    eos = one("<eos>")
    assert encode_text(chatml, "yo") == [one("y"), one("o"), eos]
    assert encode_text(chatml, "yo<eos>") == [one("y"), one("o"), eos]


def test_a_conversation_that_the_template_refuses_is_named():
    tokenizer = bytes_tokenizer(NO_SYSTEM)
    with pytest.raises(DataError, match=r"conversation of system, user .*first user turn"):
        encode_prompt(tokenizer, Prompt((Message("system", "s"), Message("user", "u"))))


def test_a_demonstration_without_an_assistant_is_refused():
    with pytest.raises(DataError, match="assistant turn"):
        encode_demonstration(chatml, [Message("user", "q")])


GLM = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_turn_that_ends_in_the_next_roles_mark_ends_with_it_and_earlier_turns_count():
    tokenizer = bytes_tokenizer(GLM, specials=("<|user|>", "<|assistant|>", "<eos>"))
    assert end_token_id(tokenizer) == one("<|user|>", tokenizer)
    assert one("<eos>", tokenizer) in stop_token_ids(tokenizer)
    ids, labels = encode_demonstration(tokenizer, conversation("q", "r", "s", "t"))
    assert tokenizer.decode(ids) == (
        "<|user|>\nq<|assistant|>\nr<|user|>\ns<|assistant|>\nt<|user|>"
    )
    assert tokenizer.decode([i for i in labels if i != IGNORED]) == "\nr<|user|>\nt<|user|>"


def opening_tokenizer(template: str | None):
    """As Llama's: ``<s>`` is put before any text."""
    tokenizer = bytes_tokenizer(template or "", specials=("<s>", "<eos>"), bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", one("<s>", tokenizer))]
    )
    tokenizer.chat_template = template or plain_template(tokenizer)
    return tokenizer


def test_rows_of_every_stage_open_as_the_tokenizer_opens_plain_text():
    tokenizer = opening_tokenizer(None)
    bos = one("<s>", tokenizer)
    talk = conversation("q", "r")
    prompt = Prompt(tuple(talk[:1]))
    rows = [
        encode_text(tokenizer, "q"),
        encode_text(tokenizer, "<s>q"),
        encode_completion(tokenizer, "q", "r")[0],
        encode_completion(tokenizer, "<s>q", "r")[0],
        encode_demonstration(tokenizer, talk)[0],
        encode_prompt(tokenizer, prompt),
    ]
    assert [row.count(bos) for row in rows] == [1] * len(rows)
    assert {row[0] for row in rows} == {bos}
    assert bos not in encode_response(tokenizer, prompt, "r")
    assert plain_template(chatml) == PLAIN_TEMPLATE


def test_a_template_says_itself_how_rows_open():
    tokenizer = opening_tokenizer(CHATML.replace("<|im_start|>", "").replace("<|im_end|>", "<eos>"))
    assert one("<s>", tokenizer) not in encode_prompt(tokenizer, Prompt.from_text("q"))
