"""Answers of a conversation as the templates of well-known bases write them."""

import json

import pytest

from rlhf.chat import (
    IGNORED,
    decode_response,
    encode_demonstration,
    encode_prompt,
    encode_response,
)
from rlhf.errors import RenderError
from rlhf.records import Message, Prompt
from tests.unit.test_chat import CHATML, bytes_tokenizer

LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '<s>[INST] ' + (system if loop.first else '') "
    "+ m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% else %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA_3 = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN_3 = (  # thoughts of the last answer only; tools in a system message of their own
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>"
    "\n\n{% endif %}{{ m.content }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}\n<tool_call>\n{{ c.function | tojson }}\n"
    "</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BLIND = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
TURNS = (
    Message("user", "q"),
    Message("assistant", "r"),
    Message("user", "s"),
    Message("assistant", " t\n"),
    Message("user", "u"),
    Message("assistant", "v"),
)
CALL = json.dumps([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}])
TOOLS = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {}}}])


def of(template):
    specials = (
        "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>",
        "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<eos>",
    )  # fmt: skip
    return bytes_tokenizer(template, specials)


def counted(tokenizer, messages, tools="") -> tuple[str, list[str]]:
    """The text, and each stretch of it that the loss counts."""
    ids, labels = encode_demonstration(tokenizer, messages, tools)
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    stretches, before = [], IGNORED
    for label in labels:
        if label != IGNORED:
            stretches += [[]] if before == IGNORED else []
            stretches[-1].append(label)
        before = label
    text = str(tokenizer.decode(ids))
    return text, [str(tokenizer.decode(stretch)) for stretch in stretches]


@pytest.mark.parametrize(
    ("template", "text", "answers"),
    [
        (
            LLAMA_2,
            "<s>[INST] q [/INST] r </s><s>[INST] s [/INST] t </s><s>[INST] u [/INST] v </s>",
            [" r </s>", " t </s>", " v </s>"],
        ),
        (
            MISTRAL,
            "<s>[INST] q [/INST] r</s>[INST] s [/INST]  t\n</s>[INST] u [/INST] v</s>",
            [" r</s>", "  t\n</s>", " v</s>"],
        ),
        (
            GEMMA,
            "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\nr<end_of_turn>\n"
            "<start_of_turn>user\ns<end_of_turn>\n<start_of_turn>model\nt<end_of_turn>\n"
            "<start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\nv<end_of_turn>",
            ["r<end_of_turn>", "t<end_of_turn>", "v<end_of_turn>"],
        ),
        (
            LLAMA_3,
            "".join(
                f"<|start_header_id|>{who}<|end_header_id|>\n\n{said}<|eot_id|>"
                for who, said in zip(["user", "assistant"] * 3, "qrstuv", strict=True)
            ),
            ["r<|eot_id|>", "t<|eot_id|>", "v<|eot_id|>"],
        ),
        (
            CHATML,
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nr<|im_end|>\n"
            "<|im_start|>user\ns<|im_end|>\n<|im_start|>assistant\n t\n<|im_end|>\n"
            "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\nv<|im_end|>",
            ["r<|im_end|>", " t\n<|im_end|>", "v<|im_end|>"],
        ),
    ],
    ids=["llama-2", "mistral", "gemma", "llama-3", "chatml"],
)
def test_every_answer_counts_as_it_was_generated(template, text, answers):
    assert counted(of(template), TURNS) == (text, answers)


def test_an_answer_reads_as_an_earlier_turn_as_it_was_generated():
    for template in (LLAMA_2, MISTRAL, GEMMA, LLAMA_3, CHATML, QWEN_3):
        tokenizer = of(template)
        head = encode_prompt(tokenizer, Prompt(TURNS[:1]))
        response = encode_response(tokenizer, Prompt(TURNS[:1]), "r")
        later = encode_prompt(tokenizer, Prompt(TURNS[:3]))
        assert later[: len(head) + len(response)] == head + response
        assert decode_response(tokenizer, response) == "r"


def test_a_template_that_drops_old_thoughts_leaves_only_those_answers_uncounted():
    turns = (
        *TURNS[:3],
        Message("assistant", "t", thinking="hm"),
        Message("user", "u"),
        Message("assistant", "v", thinking="ha"),
    )
    _, answers = counted(of(QWEN_3), turns)
    assert answers == ["r<|im_end|>", "<think>\nha\n</think>\n\nv<|im_end|>"]


def test_calls_of_tools_are_written_by_the_template():
    turns = (
        Message("user", "q"),
        Message("assistant", "", tool_calls=CALL),
        Message("tool", "2"),
        Message("assistant", "It is 2."),
    )
    call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>'
    written = of(QWEN_3.replace(" and loop.last", " and m.reasoning_content"))
    text, answers = counted(written, turns, TOOLS)
    assert answers == [call, "It is 2.<|im_end|>"]
    schema = json.dumps(json.loads(TOOLS)[0])
    assert text.startswith(f"<|im_start|>system\n{schema}\n<|im_end|>\n<|im_start|>user\nq")
    assert "<tool_response>\n2\n</tool_response>" in text


@pytest.mark.parametrize(
    ("template", "message", "tools", "sentence"),
    [
        (CHATML, Message("assistant", "r", thinking="hm"), "", "`thinking` of message 2"),
        (CHATML, Message("assistant", "", tool_calls=CALL), "", "`tool_calls` of message 2"),
        (CHATML, Message("assistant", "r"), TOOLS, "leaves out `tools`"),
        (BLIND, Message("tool", "q"), "", r"the text of message 2 \(tool\)"),
        (MISTRAL, Message("tool", "q"), "", "refuses a conversation of user, tool"),
    ],
)
def test_what_a_template_leaves_out_is_refused(template, message, tools, sentence):
    turns = (Message("user", "q"), message, Message("assistant", "end"))
    with pytest.raises(RenderError, match=sentence):
        encode_demonstration(of(template), turns, tools)


def test_an_answer_that_weighs_nothing_says_nothing_or_opens_the_talk_is_context():
    turns = (
        Message("assistant", "Hello."),
        Message("user", "q"),
        Message("assistant", "bad", weight=0),
        Message("user", "s"),
        Message("assistant", ""),
        Message("user", "u"),
        Message("assistant", "v"),
        Message("user", "w"),
        Message("assistant", "bad too", weight=0),
    )
    text, answers = counted(of(CHATML), turns)
    assert answers == ["v<|im_end|>"]
    assert text.startswith("<|im_start|>assistant\nHello.<|im_end|>\n")
    assert text.endswith("<|im_start|>assistant\nv<|im_end|>")
    with pytest.raises(RenderError, match="an assistant turn that answers something"):
        encode_demonstration(of(CHATML), turns[:1])
