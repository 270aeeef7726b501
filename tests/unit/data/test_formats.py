import json
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import SourceConfig
from rlhf.data.sources import read, read_texts
from rlhf.errors import DataError
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Preference,
    Prompt,
    Response,
    to_json,
)

USER, REPLY, OTHER = {"role": "user", "content": "Hi"}, "Hello.", "Go away."
HI = Prompt.from_text("Hi")
GOOD, BAD = {"role": "assistant", "content": REPLY}, {"role": "assistant", "content": OTHER}
HH = "\n\nHuman: One?\n\nAssistant: Two.\n\nHuman: Three?\n\nAssistant: "
TURNS = (Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?"))


def write(tmp_path, *rows, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def from_rows(tmp_path, kind, *rows, **options):
    return read(SourceConfig(path=write(tmp_path, *rows), **options), kind)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("preference", {"prompt": "Hi", "chosen": REPLY, "rejected": OTHER}),
        ("preference", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}),
        ("preference", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("preference", {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("preference", {"instruction": "Hi", "input": "", "chosen": REPLY, "rejected": OTHER}),
        ("hh", {"chosen": f"\n\nHuman: Hi\n\nAssistant: {REPLY}",
                "rejected": f"Human: Hi\n\nAssistant: {OTHER}"}),
        ("records", to_json(Preference(HI, REPLY, OTHER))),
        ("votes", {"prompt": "Hi", "response_a": OTHER, "response_b": REPLY, "votes": ["b"]}),
        ("votes", {"prompt": "Hi", "response1": REPLY, "response2": OTHER, "annotator1": 1}),
        ("votes", {"prompt": "Hi", "response_a": REPLY, "response_b": OTHER, "winner": "model_a"}),
        ("votes", {"prompt": "Hi", "arg1": {"id": "1", "text": OTHER}, "arg2": {"text": REPLY},
                   "votes": [{"worker": "w", "value": "a2", "reason": ""}]}),
        ("votes", {"question": "Hi", "prediction 1": REPLY, "prediction 2": OTHER,
                   "preference": [1]}),
    ],
)  # fmt: skip
def test_every_preference_format_says_the_same(tmp_path, name, row):
    for named in (name, "auto"):
        [found] = from_rows(tmp_path, Preference, row, format=named)
        assert (found.prompt, found.chosen, found.rejected) == (HI, REPLY, OTHER)
        assert found.provenance["origin"].endswith("a.jsonl:1")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": [USER, GOOD]}),
        ("messages", {"messages": json.dumps([USER, GOOD])}),
        ("messages", {"turns": [["U", "Hi"], ["S", REPLY]]}),
        ("messages", {"turns": [{"speaker": "user", "text": "Hi"},
                                {"speaker": "assistant", "text": REPLY}]}),
        ("messages", {"dialog": ["User 1: Hi", f"**User 2:** {REPLY}"]}),
        ("messages", {"dialog": ["Hi", "", REPLY]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                                   GOOD]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"},
                                        {"from": "gpt", "value": REPLY}]}),
        ("alpaca", {"instruction": "Hi", "input": "", "output": REPLY}),
        ("prompt_completion", {"prompt": "Hi", "completion": REPLY}),
        ("prompt_completion", {"prompt": [USER], "completion": [GOOD]}),
        ("records", to_json(Demonstration((Message("user", "Hi"), Message("assistant", REPLY))))),
        ("unpaired", {"prompt": "Hi", "completion": REPLY, "label": True}),
        ("preference", {"prompt": "Hi", "chosen": REPLY, "rejected": OTHER}),
    ],
)  # fmt: skip
def test_every_demonstration_format_says_the_same(tmp_path, name, row):
    for named in (name, "auto"):
        [found] = from_rows(tmp_path, Demonstration, row, format=named)
        assert found.messages == (Message("user", "Hi"), Message("assistant", REPLY))
        assert found.metadata["origin"].endswith("a.jsonl:1")
        [prompt] = from_rows(tmp_path, Prompt, row, format=named)
        assert prompt.messages == HI.messages


def test_alpaca_puts_the_input_under_the_instruction_and_the_system_before(tmp_path):
    row = {"instruction": "Sum", "input": "1 2", "output": 3, "system": "Be short."}
    [found] = from_rows(tmp_path, Demonstration, row)
    assert [m.content for m in found.messages] == ["Be short.", "Sum\n\n1 2", "3"]


def test_transcripts_share_their_turns_and_an_answer_may_be_empty(tmp_path):
    [found] = from_rows(tmp_path, Preference, {"chosen": HH + "Four.", "rejected": HH})
    assert (found.prompt.messages, found.chosen, found.rejected) == (TURNS, "Four.", "")


def test_a_transcript_that_is_due_an_answer_is_a_prompt(tmp_path):
    [found] = from_rows(tmp_path, Prompt, {"prompt": HH})
    assert found.messages == TURNS


def test_what_the_assistant_says_in_a_row_is_one_response(tmp_path):
    row = {"chosen": HH + "Four.\n\nAssistant: Five.", "rejected": HH + "No."}
    [found] = from_rows(tmp_path, Preference, row)
    assert found.chosen == "Four.\n\nFive."


@pytest.mark.parametrize("label", [True, 1, 1.0, "True", "up", "nontoxic"])
def test_good_is_written_in_many_ways(tmp_path, label):
    [found] = from_rows(tmp_path, Feedback, {"prompt": "Hi", "completion": REPLY, "label": label})
    assert (found.prompt, found.response, found.good) == (HI, REPLY, True)


def test_bad_responses_are_not_worth_imitating(tmp_path):
    rows = [{"prompt": "Hi", "completion": c, "label": c == REPLY} for c in (REPLY, OTHER)]
    assert [f.good for f in from_rows(tmp_path, Feedback, *rows)] == [True, False]
    [found] = from_rows(tmp_path, Demonstration, *rows)
    assert found.messages[-1].content == REPLY


def test_a_call_of_a_tool_is_what_the_assistant_said(tmp_path):
    context = [{"role": "user", "text": "Hi"}, {"role": "agent", "api": {"f": {}}},
               {"role": "api", "response": {"f": 1}}]  # fmt: skip
    row = {"context": json.dumps(context), "reward": 0.0,
           "generation": json.dumps({"role": "agent", "text": REPLY})}  # fmt: skip
    [found] = from_rows(tmp_path, Feedback, row)
    assert [(m.role, m.content) for m in found.prompt.messages] == [
        ("user", "Hi"), ("assistant", '{"api": {"f": {}}}'), ("tool", '{"response": {"f": 1}}'),
    ]  # fmt: skip
    assert (found.response, found.good) == (REPLY, False)


def test_votes_in_rows_of_their_own_are_settled_together(tmp_path):
    base = {"prompt": "Hi", "response_a": REPLY, "response_b": OTHER}
    rows = [{**base, "rater": r, "vote": v} for r, v in zip("vwxyz", "aabta", strict=True)]
    rows[3]["vote"] = "tie"
    rows.append({**base, "rater": "q", "vote": "skip"})
    [found] = from_rows(tmp_path, Preference, *rows)
    assert (found.chosen, found.num_votes, found.margin, found.agreement) == (REPLY, 5, 0.4, 0.6)


def test_a_tie_is_no_preference_but_still_has_a_prompt(tmp_path):
    tie = {"prompt": "Hi", "response_a": REPLY, "response_b": OTHER, "votes": ["a", "b"]}
    won = {"prompt": "Ho", "response_a": REPLY, "response_b": OTHER, "votes": ["a"]}
    assert [p.prompt.text for p in from_rows(tmp_path, Preference, tie, won)] == ["Ho"]
    assert [p.text for p in from_rows(tmp_path, Prompt, tie, won)] == ["Hi", "Ho"]
    [first, _] = from_rows(tmp_path, Comparison, tie, won)
    assert first == Comparison(HI, Response(REPLY), Response(OTHER), first.metadata)
    with pytest.raises(DataError, match="all are empty or ties"):
        from_rows(tmp_path, Preference, tie)


def test_every_pair_of_ranked_answers_is_a_comparison(tmp_path):
    row = {"question": "Hi", "prediction 1": "p", "prediction 2": "q", "prediction 3": "r",
           "preference": [1, 0, 2]}  # fmt: skip
    found = from_rows(tmp_path, Preference, row)
    assert [(p.chosen, p.rejected) for p in found] == [("p", "q"), ("r", "q")]


def test_a_pair_without_a_prompt_is_about_its_texts_alone(tmp_path):
    [found] = from_rows(tmp_path, Preference, {"sentence_good": "It is.", "sentence_bad": "It be."})
    assert (found.prompt, found.chosen) == (Prompt.from_text(""), "It is.")


def test_short_columns_stay_beside_the_record_and_the_first_rows_can_be_taken(tmp_path):
    rows = [{"prompt": str(n), "topic": "t", "note": "x" * 999, "n": n} for n in range(5)]
    found = from_rows(tmp_path, Prompt, *rows, limit=2)
    assert [p.text for p in found] == ["0", "1"]
    assert found[1].metadata == {"origin": f"{tmp_path}/a.jsonl:2", "topic": "t", "n": 1}


def test_plain_text_is_documents_or_a_prompt_on_each_line(tmp_path):
    (tmp_path / "a.txt").write_text("One?\n\n Two? \n")
    source = SourceConfig(path=str(tmp_path / "a.txt"))
    assert read_texts(source) == ["One?\n\n Two? \n"]
    assert [p.text for p in read(source, Prompt)] == ["One?", "Two?"]
    rows = write(tmp_path, {"text": "a"}, {"text": " "}, {"text": "b"})
    assert read_texts(SourceConfig(path=rows)) == ["a", "b"]


PAIR = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
HALF = {"prompt": "Hi", "chosen": "a"}
DUEL = {"prompt": "Hi", "response_a": "a", "response_b": "b"}
ELSEWHERE = {"chosen": HH + "x", "rejected": "\n\nHuman: Other?\n\nAssistant: y"}


@pytest.mark.parametrize(
    ("kind", "row", "sentence"),
    [
        (
            Preference,
            HALF,
            r":1: holds prompts, but preferences \(`prompt`, `chosen`, `rejected`\) are",
        ),
        (
            Preference,
            {"x": 1, "y": 2},
            r":1: cannot tell what the columns mean \(`x`, `y`\); rename them to prompt, res",
        ),
        (Preference, PAIR | {"chosen": {"a": 1}}, "unknown role"),
        (Preference, PAIR | {"chosen": [GOOD, GOOD]}, "`chosen` must add one assistant message"),
        (Preference, PAIR | {"chosen": "a\ud800"}, "lone surrogates"),
        (Preference, PAIR | {"margin": "x"}, "`margin` must be a number, not 'x'"),
        (Preference, PAIR | {"margin": 1e999}, "not JSON"),
        (Preference, PAIR | {"margin": "inf"}, "`margin` must be finite"),
        (Preference, DUEL | {"votes": ["c"]}, "'c' is no vote; use a, b, tie, both_bad or skip"),
        (Preference, ELSEWHERE, "differ in their last turn only"),
        (Preference, to_json(Preference(HI, "a", "b")) | {"odd": 1}, "a.jsonl:1: `odd`"),
        (Demonstration, {"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot'"),
        (Demonstration, {"messages": [USER]}, "holds prompts, but demonstrations"),
        (Feedback, {"prompt": "Hi", "completion": "x", "label": "so so"}, "not 'so so'"),
        (Prompt, {"text": "x"}, "holds plain text, but prompts"),
    ],
)
def test_a_wrong_row_is_one_sentence_with_its_line_and_the_remedy(tmp_path, kind, row, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        from_rows(tmp_path, kind, row)
    assert "\n" not in str(caught.value)


def test_a_field_that_is_missing_on_line_seven_is_missed_on_line_seven(tmp_path):
    with pytest.raises(
        DataError, match=r"a.jsonl:7: `rejected` is missing; mend or remove the row"
    ):
        from_rows(tmp_path, Preference, *[PAIR] * 6, HALF)
    with pytest.raises(
        DataError, match=r"a.jsonl:1: format preference needs prompt, chosen, rejec"
    ):
        from_rows(tmp_path, Preference, HALF, format="preference")


names = st.sampled_from(
    ["prompt", "chosen", "rejected", "messages", "completion", "label", "conversations", "text",
     "response_a", "response_b", "votes", "vote", "instruction", "output", "input", "turns", "id",
     "dialog", "context", "generation", "reward", "prediction 1", "preference", "passages",
     "margin", "metadata", "provenance", "response", "good", "system", "annotator1", "title",
     "stance"]
)  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.sampled_from(["a", "user", "assistant", HH, "[]", "[{}]", "\ud800"])
)
keys = st.sampled_from(["role", "content", "from", "value", "text", "messages", "id"]) | names
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=8
)


@pytest.mark.parametrize("kind", [Preference, Demonstration, Prompt, Feedback, Comparison])
@given(rows=st.lists(st.dictionaries(names, values, max_size=6), min_size=1, max_size=3))
def test_any_rows_give_records_or_a_data_error(tmp_path_factory, kind, rows):
    path = write(tmp_path_factory.getbasetemp(), *rows, name="fuzz.jsonl")
    try:
        found = read(SourceConfig(path=path), kind)
    except DataError as error:
        assert str(error).startswith(path)  # noqa: PT017 - any other error must fail the test
    else:
        assert found
        assert all(type(record) is kind for record in found)


def test_our_records_survive_a_columnar_file_that_fills_up_what_is_left_out(tmp_path):
    records = [
        Preference(Prompt.from_text("Hi", topic="t"), "a", "b", 0.5, 0.75, 4, {"x": 1}),
        Preference(HI, "c", "d", provenance={"y": "z"}),
    ]
    Dataset.from_list([to_json(record) for record in records]).to_parquet(tmp_path / "a.parquet")
    found = read(SourceConfig(path=str(tmp_path / "a.parquet")), Preference)
    origins = [record.provenance["origin"] for record in found]
    assert origins == [f"{tmp_path}/a.parquet, row {n}" for n in (1, 2)]
    assert found == [
        replace(record, provenance={**record.provenance, "origin": origin})
        for record, origin in zip(records, origins, strict=True)
    ]


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), plain),
    min_size=1,
    max_size=4,
).map(tuple)
prompts = st.builds(Prompt, messages)
RECORDS = {
    Prompt: prompts,
    Demonstration: st.builds(
        lambda head, last: Demonstration((*head, Message("assistant", last))), messages, plain
    ),
    Preference: st.builds(
        Preference, prompts, plain, plain, st.none() | st.floats(0.01, 1), st.none() | st.just(0.5)
    ),
    Feedback: st.builds(Feedback, prompts, plain, st.booleans()),
    Comparison: st.builds(
        Comparison, prompts, st.builds(Response, plain, plain), st.builds(Response, plain)
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
@given(data=st.data())
def test_our_own_records_come_back_as_they_were(tmp_path_factory, kind, data):
    record = data.draw(RECORDS[kind])
    path = write(tmp_path_factory.getbasetemp(), to_json(record), name="own.jsonl")
    source = SourceConfig(path=path, format="records")
    [found] = read(source, kind)
    assert {**to_json(found), "provenance": 0, "metadata": 0} == {
        **to_json(record), "provenance": 0, "metadata": 0,
    }  # fmt: skip
