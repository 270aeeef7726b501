"""Nothing that a row says is lost, glued together or taken for something else without a word."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.chat import encode_demonstration, encode_prompt, encode_response
from rlhf.config import DataConfig, SourceConfig
from rlhf.data.prepare import load
from rlhf.data.sources import read
from rlhf.data.tokenized import (
    feedback_dataset,
    preference_dataset,
    reward_dataset,
    sft_dataset,
)
from rlhf.errors import DataError, RenderError
from rlhf.records import (
    Demonstration,
    Feedback,
    Message,
    Preference,
    Prompt,
    from_json,
    to_json,
)
from tests.unit.test_chat import CHATML
from tests.unit.test_chat_templates import CALL, GEMMA, QWEN_3, TOOLS, of

REPLIES = {"chosen": "Yes.", "rejected": "No."}
USER, GOOD = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}
HI = (Message("user", "Hi"),)


def write(folder, *rows, name="a.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def from_rows(folder, kind, *rows):
    return read(SourceConfig(path=write(folder, *rows)), kind)


@pytest.mark.parametrize(
    "prompt",
    [
        {"messages": [USER]},
        {"messages": [USER, GOOD]},
        {"messages": json.dumps([USER])},
        {"conversations": [{"from": "human", "value": "Hi"}]},
        {"dialogue": ["Hi"]},
        {"query": "Hi"},
        {"input": "Hi"},
        {"question": "Hi", "input": ""},
        {"instruction": " ", "input": "Hi"},
        {"context": "Hi"},
        {"prompt": json.dumps([USER])},
        {"prompt": "", "question": "Hi"},
    ],
    ids=str,
)
def test_a_prompt_is_found_under_each_of_its_usual_names(tmp_path, prompt):
    [found] = from_rows(tmp_path, Preference, {**prompt, **REPLIES})
    assert (found.prompt.messages, found.chosen, found.rejected) == (HI, "Yes.", "No.")
    judged = {"response_a": "Yes.", "response_b": "No.", "votes": ["a"]}
    [settled] = from_rows(tmp_path, Preference, {**prompt, **judged})
    assert settled.prompt.messages == HI


def test_rows_with_other_prompts_become_other_tokens_in_every_stage(tmp_path):
    tokenizer = of(CHATML)
    config = DataConfig(train=[SourceConfig(path="a")], max_length=99)
    for name in ("messages", "conversations", "query", "input"):
        asked = [f"prompt {i}" for i in range(2)]
        cells = [[{"role": "user", "content": a}] if name.endswith("s") else a for a in asked]
        rows = [{name: cell, **REPLIES} for cell in cells]
        pairs = from_rows(tmp_path, Preference, *rows)
        ratings = from_rows(tmp_path, Feedback, *rows)
        for dataset, column in (
            (reward_dataset(pairs, tokenizer, config), "chosen_ids"),
            (preference_dataset(pairs, tokenizer, config), "prompt_ids"),
            (feedback_dataset(ratings, tokenizer, config), "prompt_ids"),
        ):
            texts = [tokenizer.decode(ids) for ids in dataset[column]]
            assert all(any(a in text for text in texts) for a in asked)


def test_an_empty_prompt_that_a_column_could_hold_is_refused_with_the_columns(tmp_path):
    row = {"post": "Hi", "thread": [1], "source": "web", "user_id": "u", **REPLIES}
    with pytest.raises(
        DataError, match=r"a.jsonl:1: there is no prompt, which `post`, `thread` co"
    ):
        from_rows(tmp_path, Preference, row)
    [found] = from_rows(tmp_path, Preference, {"source": "web", "user_id": "u", **REPLIES})
    assert found.prompt == Prompt.from_text("")


def test_what_was_said_before_stands_before_the_question(tmp_path):
    row = {"instruction": "And?", "output": "No.", "history": [["Hi", "Yes."]], "system": "Be."}
    [found] = from_rows(tmp_path, Demonstration, row)
    assert found.messages == (
        Message("system", "Be."), *HI, Message("assistant", "Yes."),
        Message("user", "And?"), Message("assistant", "No."),
    )  # fmt: skip
    [dolly] = from_rows(
        tmp_path, Demonstration, {"instruction": "Sum", "context": "1 2", "response": "3"}
    )
    assert dolly.messages[0].content == "Sum\n\n1 2"


def test_a_system_column_stands_before_messages_of_every_kind(tmp_path):
    system = Message("system", "Be.")
    for row in (
        {"prompt": [USER], **REPLIES},
        {"messages": [USER], **REPLIES},
        {"chosen": [USER, GOOD], "rejected": [USER, {**GOOD, "content": "No."}]},
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Yes.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: No.",
        },
    ):
        [found] = from_rows(tmp_path, Preference, {**row, "system": "Be."})
        assert (found.prompt.messages, found.chosen) == ((system, *HI), "Yes.")
    turns = [{"role": "system", "content": "Other"}, USER, GOOD]
    with pytest.raises(DataError, match="`system` is another system message than"):
        from_rows(tmp_path, Demonstration, {"messages": turns, "system": "Be."})


def test_fields_of_messages_are_kept(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "No.", "weight": 0},
        {
            "role": "user",
            "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}],
        },
        {**GOOD, "weight": 1},
    ]
    [found] = from_rows(tmp_path, Demonstration, {"messages": turns, "tools": json.loads(TOOLS)})
    asked, called, answered, bad, parts, good = found.messages
    assert json.loads(called.tool_calls) == [{"id": "c1", **json.loads(CALL)[0]}]
    assert (called.role, called.content, called.thinking) == ("assistant", "", "hm")
    assert answered == Message("tool", "2", tool_call_id="c1")
    assert (bad.weight, good.weight, parts.content) == (0, 1, "One\nTwo")
    assert asked == HI[0]
    assert json.loads(found.tools) == json.loads(TOOLS)
    assert from_json(Demonstration, to_json(found)) == found


def test_calls_of_sharegpt_are_calls(tmp_path):
    turns = [("human", "Hi"), ("function_call", '{"name": "f", "arguments": {"x": 1}}'),
             ("observation", "2"), ("gpt", "Yes.")]  # fmt: skip
    row = {"conversations": [{"from": who, "value": text} for who, text in turns], "tools": TOOLS}
    [found] = from_rows(tmp_path, Demonstration, row)
    assert found.messages == (
        *HI, Message("assistant", "", tool_calls=CALL), Message("tool", "2"),
        Message("assistant", "Yes."),
    )  # fmt: skip
    assert found.tools == TOOLS


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"role": "user", "content": [{"type": "image", "image": "x.png"}]}, "is image, not text"),
        ({"role": "user", "content": [{"type": "image_url", "text": None}]}, "is image_url, not"),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "`weight` .* 0 or 1, not 0.5"),
        ({"role": "user", "content": "x", "thinking": "hm"}, "cannot think or call"),
        ({"role": "assistant", "content": "x", "tool_calls": ["f"]}, r"must be {name, arguments}"),
        ({"role": "assistant", "thinking": "a", "reasoning": "b"}, "different thoughts under"),
        ({"role": "system", "content": "x", "tools": "[]"}, "as a column beside"),
        ({"role": "アシスタント", "content": "x"}, "unknown role"),
    ],
)
def test_what_a_message_cannot_say_is_refused_with_its_line(tmp_path, message, sentence):
    with pytest.raises(DataError, match=rf"a.jsonl:1: .*{sentence}"):
        from_rows(tmp_path, Demonstration, {"messages": [USER, message, GOOD]})


def test_a_response_of_more_than_text_is_no_preference(tmp_path):
    reply = {**GOOD, "thinking": "hm"}
    with pytest.raises(DataError, match=r"a.jsonl:1: `chosen` holds thoughts beside its text"):
        from_rows(tmp_path, Preference, {"prompt": "Hi", "chosen": [reply], "rejected": "No."})


def test_columns_that_are_not_used_are_listed_once(tmp_path, caplog):
    row = {"prompt": "Hi", "note": "x" * 999, "empty": "", "messages": [USER], **REPLIES}
    turns = [USER | {"mood": "good", "text": "Ho"}, GOOD | {"mood": "bad"}]
    from_rows(tmp_path, Preference, row, row)
    assert [r.message.split(": ")[1] for r in caplog.records if "no text" in r.message] == [
        "no text comes from `note`, `messages`"
    ]
    caplog.clear()
    from_rows(tmp_path, Demonstration, {"messages": turns})
    [line] = [r.message for r in caplog.records if "no text" in r.message]
    assert "`messages.mood`" in line
    assert "`messages.text`" in line


def test_an_id_is_what_it_was_where_messages_have_no_other_fields():
    assert Prompt.from_text("Hi").id == "bf35c3edee63074a"
    thoughtful = Prompt((*HI, Message("assistant", "Yes.", thinking="hm"), *HI))
    plain = Prompt((*HI, Message("assistant", "Yes."), *HI))
    assert len({plain.id, thoughtful.id, Prompt(plain.messages, tools=TOOLS).id}) == 3


def test_rows_that_the_template_cannot_write_are_listed_and_left_out(caplog):
    source = SourceConfig(path="a.jsonl")
    records = [
        Demonstration((*HI, Message("assistant", "Yes.")), {"origin": f"a.jsonl:{i}"})
        for i in range(1, 10)
    ]
    odd = Demonstration((Message("system", "Be."), *records[0].messages), {"origin": "a.jsonl:10"})
    config = DataConfig(train=[source], max_length=99, max_dropped=0.1)
    with caplog.at_level(logging.WARNING):
        assert len(sft_dataset([*records, odd], of(GEMMA), config)) == 9
    [line] = [r.message for r in caplog.records]
    assert line.startswith("1 of 10 rows cannot be written")
    assert "a.jsonl:10: the tokenizer's chat template refuses" in line
    with pytest.raises(DataError, match=r"a.jsonl:10: .*\(so 2 of 11 rows, 18%"):
        sft_dataset([*records, odd, odd], of(GEMMA), config)
    config = DataConfig(train=[source], max_length=40, max_dropped=0.1)
    long = Demonstration((Message("user", "x" * 99), *records[0].messages[1:]), {"origin": "b"})
    with pytest.raises(DataError, match=r"\(18%\) are longer .* and 1 cannot be written"):
        sft_dataset([*records, odd, long], of(GEMMA), config)


def test_a_talk_that_the_assistant_opens_is_read_and_its_empty_answers_are_counted(tmp_path):
    turns = [GOOD, USER, GOOD | {"content": " "}, USER, GOOD]
    path = write(tmp_path, {"messages": turns}, {"messages": [GOOD]})
    data = DataConfig(train=[SourceConfig(path=path)], eval_fraction=0, max_length=99)
    loaded = load(data, Demonstration)
    assert loaded.notes["empty_answer"] == 1
    assert loaded.notes["no_reply"] == 1
    [row] = sft_dataset(loaded.train, of(CHATML), data).to_list()
    assert of(CHATML).decode([i for i in row["labels"] if i >= 0]) == "Yes.<|im_end|>"


letters = st.text(st.characters(codec="ascii", categories=("L",)), min_size=5, max_size=9)
texts = letters.map(lambda t: f"w{t}w")
fields = st.fixed_dictionaries(
    {"content": texts | texts.map(lambda t: [{"type": "text", "text": t}])},
    optional={"weight": st.sampled_from([0, 1]), "mood": texts, "thinking": texts,
              "tool_calls": texts.map(lambda t: [{"name": t, "arguments": {"x": t}}])},
)  # fmt: skip
roles = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "bing", "robot"])
chats = st.lists(st.builds(lambda r, f: {"role": r, **f}, roles, fields), min_size=1, max_size=4)
prompts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("prompt", "instruction", "question", "query", "input", "context"), texts),
        **dict.fromkeys(("messages", "conversations", "prompt"), chats),
        **dict.fromkeys(("system", "post", "note"), texts),
        "history": st.lists(st.tuples(texts, texts), max_size=2),
        "tools": texts.map(lambda t: [{"name": t}]),
    },
)
responses = st.sampled_from([("chosen", "rejected"), ("completion",), ("output",), ()])


def strings(value):
    if isinstance(value, str):
        return {value} if value.startswith("w") and value.endswith("w") else set()
    inner = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
    return set().union(*map(strings, inner))


@given(prompt=prompts, names=responses, replies=st.tuples(texts, texts))
@settings(deadline=None, max_examples=300)
def test_every_text_of_a_row_is_rendered_or_its_column_listed_or_the_row_refused(
    tmp_path_factory, prompt, names, replies
):
    tokenizer = of(QWEN_3.replace(" and loop.last", " and m.reasoning_content"))
    row = {**prompt, **dict(zip(names, replies, strict=False))}
    path = write(tmp_path_factory.getbasetemp(), row)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("rlhf.data.sources").addHandler(handler)
    try:
        shown = _shown(tokenizer, path, Preference if "chosen" in names else Demonstration)
    except (DataError, RenderError):
        return
    finally:
        logging.getLogger("rlhf.data.sources").removeHandler(handler)
    listed = " ".join(line for line in lines if "no text comes from" in line)
    for name, value in row.items():
        turns = value if isinstance(value, list) and f"`{name}.mood`" in listed else []
        moods = {turn["mood"] for turn in turns if "mood" in turn}
        for text in strings(value) - moods:
            assert text in shown or f"`{name}`" in listed, (text, row)


def _shown(tokenizer, path, kind):
    """The row as a model sees it. What follows the last answer is no context of any."""
    try:
        [record] = read(SourceConfig(path=path), kind)
    except DataError as error:
        if "holds prompts" not in str(error):
            raise
        [record] = read(SourceConfig(path=path), Prompt)
    if isinstance(record, Preference):
        chosen, rejected = (
            encode_response(tokenizer, record.prompt, text)
            for text in (record.chosen, record.rejected)
        )
        return tokenizer.decode(encode_prompt(tokenizer, record.prompt) + chosen + rejected)
    if isinstance(record, Prompt):
        return tokenizer.decode(encode_prompt(tokenizer, record))
    ids, _ = encode_demonstration(tokenizer, record.messages, record.tools)
    last = max(i for i, m in enumerate(record.messages) if i and m.imitated)
    return tokenizer.decode(ids) + str(record.messages[last + 1 :])
