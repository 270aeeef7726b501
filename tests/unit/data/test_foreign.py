"""Files of other labelling tools: golden examples by hand, and no row that breaks a reader."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import SourceConfig
from rlhf.data.readers.foreign import READERS, TOOLS, Haul, read_foreign, tool_of
from rlhf.data.readers.foreign_tasks import Gathered, Names
from rlhf.data.sources import read
from rlhf.errors import DataError
from rlhf.records import Comparison, Message, Preference


def write(path: Path, rows: object) -> str:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return str(path)


def talk(*contents: str | None) -> list[dict[str, str | None]]:
    return [
        {"role": "user" if number % 2 == 0 else "assistant", "content": content}
        for number, content in enumerate(contents)
    ]


def battle(winner: object, a: str = "Paris.", b: str = "Lyon.", **keys: object):
    return {
        "question_id": "58210e39b3fd4441a2bd4a518bb44c2d",
        "model_a": "chatglm-6b",
        "model_b": "koala-13b",
        "winner": winner,
        "judge": "arena_user_973",
        "conversation_a": talk("Capital of France?", a),
        "conversation_b": talk("Capital of France?", b),
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1322,
        **keys,
    }


# -- the arena ------------------------------------------------------------------------------------


def test_a_battle_is_a_comparison_with_its_models_and_one_vote(tmp_path):
    haul = read_foreign(write(tmp_path / "b.json", [battle("model_b")]), "arena")
    [row] = haul.rows
    assert row.prompt.messages == (Message("user", "Capital of France?"),)
    assert [(r.text, r.policy) for r in row.responses] == [
        ("Paris.", "chatglm-6b"),
        ("Lyon.", "koala-13b"),
    ]
    [judged] = row.judged()
    [vote] = judged.votes
    assert (vote.rater, vote.outcome, vote.comparison) == (
        "arena_user_973", "b", judged.comparison.id
    )  # fmt: skip
    assert row.metadata["question_id"] == "58210e39b3fd4441a2bd4a518bb44c2d"
    assert "winner" not in row.metadata


@pytest.mark.parametrize(
    ("winner", "outcome"),
    [
        ("model_a", "a"),
        ("model_b", "b"),
        ("tie", "tie"),
        ("tie (bothbad)", "both_bad"),
        ("both_bad", "both_bad"),
    ],
)
def test_every_winner_is_an_outcome(winner, outcome, tmp_path):
    [row] = read_foreign(write(tmp_path / "b.json", [battle(winner)]), "arena").rows
    assert [vote.outcome for judged in row.judged() for vote in judged.votes] == [outcome]


def test_a_vote_that_saw_the_names_is_none_but_its_comparison_stays(tmp_path):
    shown = battle("model_a", anony=False)
    [row] = read_foreign(write(tmp_path / "b.json", [shown]), "arena").rows
    assert row.ballots == ()


def test_battles_of_no_use_are_counted_by_reason(tmp_path):
    error = "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**"
    bad = [
        battle("tie", a=error),
        battle("tie", b="**API REQUEST ERROR** Reason: Unknown."),
        battle("tie", a=" "),
        battle("tie", a="Lyon."),
        battle("tie", a="I am ChatGLM-6B, made in Beijing."),
        battle("tie", a="The other one, Koala-13b, is wrong."),
        battle("tie", a="Paris, the cap▌"),
        battle("tie", conversation_a=talk("Capital of France?", None)),
        battle("tie", conversation_a=talk("Capital of France?")),
        battle("tie", conversation_a=[]),
        battle("tie", conversation_a=talk("Hi", "Hello", "Capital?", "Paris"),
               conversation_b=talk("Hi", "Hey", "Capital?", "Lyon")),
    ]  # fmt: skip
    haul = read_foreign(write(tmp_path / "b.json", [*bad, battle("model_a")]), "arena")
    assert len(haul.rows) == 1
    assert haul.left_out == {
        "error text": 2,
        "empty answer": 1,
        "same answers": 1,
        "names a model": 2,
        "unfinished": 4,
        "different conversations before the last answer": 1,
    }


def test_a_model_is_named_only_by_a_word_of_its_own(tmp_path):
    fine = battle("model_a", a="Koalas eat; ask xkoala-13b or koala-13bx.", b="Lyon.")
    assert len(read_foreign(write(tmp_path / "b.json", [fine]), "arena").rows) == 1


def parts(*contents: str | None, image: str | None = None) -> list[dict[str, Any]]:
    """A talk as ``arena-human-preference-140k`` has it."""
    return [
        {**turn, "content": [{"type": "text", "text": turn["content"], "image": image}]}
        for turn in talk(*contents)
    ]


def test_a_message_may_have_parts_and_one_with_an_image_is_no_text(tmp_path):
    a, b = (parts("Capital of France?", text) for text in ("Paris.", "Lyon."))
    seen = parts("Capital of France?", "Lyon.", image="map.png")
    rows = [
        battle("both_bad", conversation_a=a, conversation_b=b),
        battle("both_bad", conversation_a=a, conversation_b=seen),
    ]
    haul = read_foreign(write(tmp_path / "b.json", rows), "arena")
    assert [[r.text for r in row.responses] for row in haul.rows] == [["Paris.", "Lyon."]]
    assert haul.left_out == {"has an image": 1}


KAGGLE = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie"


def contest(path: Path, *rows: tuple[object, ...]) -> str:
    """The file of a competition; a list is written as JSON in its cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(KAGGLE.split(","))
        lines.writerows([json.dumps(c) if isinstance(c, list) else c for c in row] for row in rows)
    return str(path)


def test_turns_in_cells_are_a_conversation_and_ones_say_who_won(tmp_path):
    asked, one, other = ["Capital?", "Of France?"], ["Of what?", "Paris."], ["Of what?", "Lyon."]
    haul = read_foreign(
        contest(
            tmp_path / "train.csv",
            (30192, "gpt-4", "koala-13b", asked, one, other, 1, 0, 0),
            (30193, "gpt-4", "koala-13b", asked[:1], one[:1], ["Lyon"], 0, 1, 0),
            (30194, "gpt-4", "koala-13b", asked[:1], ["Rome"], ["Bonn"], 0, 0, 1),
            (30195, "gpt-4", "koala-13b", asked[:1], [None], ["Bonn"], 0, 0, 1),
            (30196, "gpt-4", "koala-13b", asked, ["Which?", "Rome"], other, 0, 0, 1),
        ),
        "arena",
    )
    first, *rest = haul.rows
    assert first.prompt.messages == (
        Message("user", "Capital?"),
        Message("assistant", "Of what?"),
        Message("user", "Of France?"),
    )
    assert [(r.text, r.policy) for r in first.responses] == [
        ("Paris.", "gpt-4"),
        ("Lyon.", "koala-13b"),
    ]
    said = [j.votes[0].outcome for row in (first, *rest) for j in row.judged()]
    assert said == ["a", "b", "tie"]
    left = {"unfinished": 1, "different conversations before the last answer": 1}
    assert haul.left_out == left


def test_a_cell_that_is_no_list_of_as_many_turns_is_text(tmp_path):
    texts = {"prompt": "[1, 2] sorted?", "response_a": '["yes"]', "response_b": "[]"}
    row = {"model_a": "x", "model_b": "y", "winner": "model_b", **texts}
    [found] = read_foreign(write(tmp_path / "b.json", [row]), "arena").rows
    assert found.prompt.messages == (Message("user", "[1, 2] sorted?"),)
    assert [r.text for r in found.responses] == ['["yes"]', "[]"]


@pytest.mark.parametrize(("marks", "count"), [((1, 1, 0), 2), ((0, 0, 0), 0)])
def test_a_battle_has_one_winner(marks, count, tmp_path):
    path = contest(tmp_path / "t.csv", (1, "x", "y", ["Hi"], ["a"], ["b"], *marks))
    with pytest.raises(DataError, match=f"winner_tie must be 1, not {count} of them"):
        read_foreign(path, "arena")


def test_text_that_no_file_can_hold_is_left_out(tmp_path):
    rows = [battle("tie", a="half an emoji: \ud83d"), battle("tie", b="nothing: \0")]
    path = tmp_path / "b.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    haul = read_foreign(str(path), "arena")
    assert haul == Haul((), {"text that no file can hold": 2})


def test_votes_beside_names_of_models_are_no_battle():
    row = {"prompt": "Hi", "response_a": "a", "response_b": "b", "model_a": "x", "model_b": "y"}
    assert tool_of({**row, "vote": "a"}) is None
    assert tool_of({**row, "winner": "tie"}) == "arena"


def test_stages_train_on_battles_as_they_are_and_say_what_they_left_out(tmp_path, caplog):
    rows = [
        battle("model_b"),
        battle("tie", a="Rome."),
        battle("model_a", a=""),
        battle("model_b", judge="arena_user_2"),
        battle("model_a", judge="arena_user_3"),
    ]
    source = SourceConfig(path=write(tmp_path / "b.json", rows))
    [found] = read(source, Preference)
    assert (found.chosen, found.rejected, found.num_votes) == ("Lyon.", "Paris.", 3)
    assert found.margin == pytest.approx(1 / 3)
    assert found.provenance["chosen_policy"] == "koala-13b"
    assert found.provenance["origin"].endswith("b.json, row 1")
    assert ": left out: 1 empty answer" in caplog.text
    assert len(read(source, Comparison)) == 4


# -- Argilla --------------------------------------------------------------------------------------

FIELDS = {"instruction": "Capital of France?", "response-1": "Paris.", "response-2": "Lyon."}
SUGGESTED = {"best": {"value": ["response-2", "response-1"], "score": 0.5, "agent": "a model"}}
# as `Record.to_dict` of argilla 2.8.0 writes it
NESTED = {
    "id": "r-1",
    "fields": FIELDS,
    "metadata": {"source": "quiz"},
    "suggestions": SUGGESTED,
    "responses": {
        "best": [
            {"value": ["response-1", "response-2"], "user_id": "ann"},
            {"value": ["response-2", "response-1"], "user_id": "bob"},
        ],
        "why": [{"value": "Paris is the capital.", "user_id": "ann"}],
    },
    "vectors": {},
    "status": "completed",
    "_server_id": "b1f7b6e6-5d4b-4b4c-9c2f-0a7d8a1b2c3d",
}
# as `to_list(flatten=True)` of argilla 2.8.0 writes it
FLAT = {
    "id": "r-1",
    "status": "completed",
    "_server_id": "b1f7b6e6-5d4b-4b4c-9c2f-0a7d8a1b2c3d",
    **FIELDS,
    "source": "quiz",
    "best.responses": [
        ["response-1", "response-2"],
        ["response-2", "response-1"],
        ["response-2", "response-1"],
    ],
    "best.responses.users": ["ann", "bob", "cy"],
    "best.responses.status": ["submitted", "submitted", "draft"],
    "best.suggestion": ["response-2", "response-1"],
    "best.suggestion.agent": "a model",
    "best.suggestion.score": 0.5,
}


def ranking(*pairs: tuple[str, int]):
    return {"value": [{"value": name, "rank": rank} for name, rank in pairs]}


# a `FeedbackRecord` of argilla-v1 1.29.1 as JSON
FIRST = {
    "external_id": "r-1",
    "fields": FIELDS,
    "metadata": {},
    "responses": [
        {
            "user_id": "ann",
            "status": "submitted",
            "values": {"best": ranking(("response-1", 1), ("response-2", 2))},
        },
        {
            "user_id": "bob",
            "status": "submitted",
            "values": {"best": ranking(("response-1", 2), ("response-2", 1))},
        },
        {
            "user_id": "cy",
            "status": "discarded",
            "values": {"best": ranking(("response-1", 2), ("response-2", 1))},
        },
    ],
    "suggestions": [{"question_name": "best", "value": [{"value": "response-2", "rank": 1}]}],
    "vectors": {},
}
# what `format_as("datasets")` of argilla-v1 1.29.1 makes of it
COLUMNS = {
    **FIELDS,
    "best": [
        {"user_id": "ann", "status": "submitted",
         "value": {"rank": [1, 2], "value": ["response-1", "response-2"]}},
        {"user_id": "bob", "status": "submitted",
         "value": {"rank": [2, 1], "value": ["response-1", "response-2"]}},
        {"user_id": "cy", "status": "discarded",
         "value": {"rank": [2, 1], "value": ["response-1", "response-2"]}},
    ],
    "best-suggestion": None,
    "best-suggestion-metadata": {"type": None, "score": None, "agent": None},
    "external_id": "r-1",
    "metadata": "{}",
}  # fmt: skip


@pytest.mark.parametrize(
    "record", [NESTED, FLAT, FIRST, COLUMNS], ids=["nested", "flat", "v1", "hf"]
)
def test_every_shape_of_an_argilla_record_says_the_same(record, tmp_path):
    path = write(tmp_path / "a.json", [record])
    [row] = read_foreign(path, "argilla").rows
    assert row.prompt.text == "Capital of France?"
    assert [r.text for r in row.responses] == ["Paris.", "Lyon."]
    assert [(b.rater, b.places) for b in row.ballots] == [("ann", (0, 1)), ("bob", (1, 0))]
    assert row.metadata == {"id": "r-1"}
    assert len(read(SourceConfig(path=path), Comparison)) == 1


def test_ranks_that_tie_stay_ties(tmp_path):
    fields = {"prompt": "?", "response_a": "x", "response_b": "y", "response_c": "z"}
    values = {"best": ranking(("response_c", 1), ("response_a", 2), ("response_b", 2))}
    record = {"fields": fields, "responses": [{"user_id": "ann", "values": values}]}
    [row] = read_foreign(write(tmp_path / "a.json", [record]), "argilla").rows
    outcomes = {
        (j.comparison.response_a.text, j.comparison.response_b.text): j.votes[0].outcome
        for j in row.judged()
    }
    assert outcomes == {("x", "y"): "tie", ("x", "z"): "b", ("y", "z"): "b"}


def chosen(value: object, names: Names | None = None, **fields: str) -> Gathered:
    record = {"fields": FIELDS | fields, "responses": {"q": [{"value": value, "user_id": "ann"}]}}
    found = READERS["argilla"].parse(record, names or Names())
    assert isinstance(found, Gathered)
    return found


def test_a_label_names_the_better_response_and_a_number_does_so_only_if_asked():
    assert [b.places for b in chosen("response-2").ballots] == [(1, 0)]
    assert [b.places for b in chosen("tie").ballots] == [(0, 0)]
    assert [b.both_bad for b in chosen("both bad").ballots] == [True]
    assert chosen(2).ballots == ()
    assert [b.places for b in chosen(2, Names(question="q")).ballots] == [(1, 0)]
    assert (chosen(2).unclear, chosen(5, Names(question="q")).unclear) == (0, 1)
    with pytest.raises(ValueError, match="no question `p` among 'q'"):
        chosen(2, Names(question="p"))


def answers(*values: object, question: str = "better", **fields: str) -> dict[str, object]:
    given = [{"value": value, "user_id": f"rater {n}"} for n, value in enumerate(values)]
    return {"fields": FIELDS | fields, "responses": {question: given}}


@pytest.mark.parametrize("names", [None, Names(question="better")], ids=["found", "named"])
def test_an_answer_that_names_no_response_is_counted_and_the_others_stay(names, tmp_path, caplog):
    rows = [
        answers("response-1", "response-1", "no preference"),
        answers("response-2", "cannot say", instruction="Capital of Italy?"),
    ]
    path = write(tmp_path / "a.json", rows)
    haul = read_foreign(path, "argilla", names)
    assert [[b.places for b in row.ballots] for row in haul.rows] == [[(0, 1), (0, 1)], [(1, 0)]]
    assert haul.left_out == {"answer that names no response": 2}
    found = read(SourceConfig(path=path), Preference)
    assert [(p.chosen, p.num_votes) for p in found] == [("Paris.", 2), ("Lyon.", 1)]
    assert "left out: 2 answer that names no response" in caplog.text


def test_a_question_that_was_named_must_say_somewhere_what_is_better(tmp_path):
    undecided = answers("no preference")
    rows = [undecided, answers("response-1", instruction="Capital of Italy?")]
    haul = read_foreign(write(tmp_path / "a.json", rows), "argilla", Names(question="better"))
    assert [len(row.ballots) for row in haul.rows] == [0, 1]
    path = write(tmp_path / "b.json", [undecided])
    with pytest.raises(
        DataError, match=r"b\.json: `better` nowhere says which .* another question"
    ):
        read_foreign(path, "argilla", Names(question="better"))


def test_a_comment_that_is_a_word_for_a_tie_is_no_answer(tmp_path):
    comments = [{"value": value, "user_id": "ann"} for value in ("same", "well written")]
    voted = [{"value": "response-1", "user_id": "ann"}]
    record = {"fields": FIELDS, "responses": {"better": voted, "why": comments}}
    haul = read_foreign(write(tmp_path / "a.json", [record]), "argilla")
    assert ([len(row.ballots) for row in haul.rows], haul.left_out) == ([1], {})


def test_two_questions_about_what_is_better_must_be_told_apart():
    answers = {q: [{"value": "response-1", "user_id": "ann"}] for q in ("helpful", "honest")}
    record = {"fields": FIELDS, "responses": answers}
    with pytest.raises(ValueError, match=r"several questions .*helpful, honest"):
        READERS["argilla"].parse(record, Names())
    found = READERS["argilla"].parse(record, Names(question="honest"))
    assert isinstance(found, Gathered)
    assert len(found.ballots) == 1


def test_columns_of_other_names_are_named_or_listed_in_the_refusal(tmp_path):
    fields = {"question_en": "?", "first": "x", "second": "y"}
    path = write(tmp_path / "a.json", [{"fields": fields, "responses": {}}])
    with pytest.raises(DataError, match=r"a\.json, row 1: no responses among `question_en`, `fi"):
        read_foreign(path, "argilla")
    with pytest.raises(DataError, match="no response under `third`; there is `question_en`"):
        read_foreign(path, "argilla", Names(responses=("first", "third")))
    with pytest.raises(DataError, match=r"no prompt under `prompt`, .*; there is `question_en`"):
        read_foreign(path, "argilla", Names(responses=("first", "second")))
    [row] = read_foreign(path, "argilla", Names("question_en", ("second", "first"))).rows
    assert [r.text for r in row.responses] == ["y", "x"]


def test_the_tenth_response_comes_after_the_ninth(tmp_path):
    fields = {"prompt": "?"} | {f"response-{n}": f"text {n}" for n in (10, 9, 1)}
    path = write(tmp_path / "a.json", [{"fields": fields, "responses": {}}])
    [row] = read_foreign(path, "argilla").rows
    assert [r.text for r in row.responses] == ["text 1", "text 9", "text 10"]


def test_a_chat_field_is_a_conversation(tmp_path):
    fields = {"chat": talk("Hi", "Hello", "Capital?"), "response": "Paris."}
    [row] = read_foreign(write(tmp_path / "a.json", [{"fields": fields}]), "argilla").rows
    assert [m.role for m in row.prompt.messages] == ["user", "assistant", "user"]
    assert [r.text for r in row.responses] == ["Paris."]


# -- Label Studio ---------------------------------------------------------------------------------


def annotation(value: object, kind: str = "pairwise", who: object = 2, **keys: object):
    result = {"value": value, "id": "Sba4F4tuVh", "from_name": "comparison",
              "to_name": "comparison", "type": kind, "origin": "manual"}  # fmt: skip
    return {"id": 68045, "completed_by": who, "result": [result], "was_cancelled": False, **keys}


PAIRWISE = {
    "id": 401635,
    "annotations": [
        annotation({"selected": "left"}),
        annotation({"selected": "right"}, who={"id": 3, "email": "bob@example.org"}),
        annotation({"selected": "right"}, was_cancelled=True),
        annotation({"selected": "none"}, who=4),
    ],
    "drafts": [],
    "predictions": [],
    "data": {"prompt": "Capital of France?", "answer1": "Paris.", "answer2": "Lyon."},
    "meta": {},
    "project": 183,
}
ITEMS = [
    {"id": "llama_model", "title": "LlamaModel", "body": "Paris."},
    {"id": "cobra_ai", "title": "CobraAI", "body": "Lyon."},
    {"id": "opossum", "title": "OpossumLogic", "body": "Rome."},
]
ORDER = ["cobra_ai", "opossum", "llama_model"]


def test_a_pairwise_task_is_a_comparison_with_its_annotators_votes(tmp_path):
    [row] = read_foreign(write(tmp_path / "ls.json", [PAIRWISE]), "label-studio").rows
    assert (row.prompt.text, [r.text for r in row.responses]) == (
        "Capital of France?", ["Paris.", "Lyon."]
    )  # fmt: skip
    assert [(b.rater, b.places) for b in row.ballots] == [
        ("2", (0, 1)),
        ("bob@example.org", (1, 0)),
    ]
    assert row.metadata == {"id": 401635}


def test_of_two_annotations_of_one_person_the_later_counts(tmp_path):
    first, second = annotation({"selected": "left"}), annotation({"selected": "right"})
    cases = [
        ([first, second], [(1, 0)]),
        ([second | {"id": 2}, first | {"id": 1}], [(1, 0)]),
        ([second | {"updated_at": "2026-02-01T00:00:00.5Z", "id": 1},
          first | {"updated_at": "2026-01-31T00:00:00.5Z", "id": 2}], [(1, 0)]),
        ([first, second | {"was_cancelled": True}], [(0, 1)]),
        ([first, annotation({"selected": "none"})], []),
        ([first | {"completed_by": None}] * 2, [(0, 1), (0, 1)]),
    ]  # fmt: skip
    for annotations, places in cases:
        path = write(tmp_path / "ls.json", [PAIRWISE | {"annotations": annotations}])
        [row] = read_foreign(path, "label-studio").rows
        assert [b.places for b in row.ballots] == places


def test_what_an_annotator_did_not_decide_is_counted_and_questions_are_told_apart(tmp_path):
    path = write(tmp_path / "ls.json", [PAIRWISE])
    assert read_foreign(path, "label-studio").left_out == {"answer that names no response": 1}
    both: Any = annotation({"selected": "left"})
    both["result"] += [both["result"][0] | {"from_name": "tone", "value": {"selected": "right"}}]
    path = write(tmp_path / "ls.json", [PAIRWISE | {"annotations": [both]}])
    with pytest.raises(DataError, match=r"several questions .*comparison, tone.*; name one"):
        read_foreign(path, "label-studio")
    [row] = read_foreign(path, "label-studio", Names(question="tone")).rows
    assert [b.places for b in row.ballots] == [(1, 0)]


@pytest.mark.parametrize("value", [ORDER, {"rank": ORDER}, {"rank": ORDER, "_": []}])
def test_a_ranker_task_is_a_ranking(value, tmp_path):
    task = {
        "id": 1,
        "data": {"prompt": "Capital of France?", "items": ITEMS},
        "annotations": [annotation({"ranker": value}, "ranker")],
    }
    path = write(tmp_path / "ls.json", [task])
    [row] = read_foreign(path, "label-studio").rows
    assert [r.policy for r in row.responses] == ["llama_model", "cobra_ai", "opossum"]
    assert [b.places for b in row.ballots] == [(2, 0, 1)]
    pairs = {(p.chosen, p.rejected) for p in read(SourceConfig(path=path), Preference)}
    assert pairs == {("Lyon.", "Paris."), ("Lyon.", "Rome."), ("Rome.", "Paris.")}


def test_buckets_are_no_ranking(tmp_path):
    value = {"ranker": {"relevant": ["llama_model"], "biased": ["cobra_ai"], "_": ["opossum"]}}
    task = {"id": 1, "data": {"prompt": "?", "items": ITEMS},
            "annotations": [annotation(value, "ranker")]}  # fmt: skip
    [row] = read_foreign(write(tmp_path / "ls.json", [task]), "label-studio").rows
    assert row.ballots == ()


# -- all ------------------------------------------------------------------------------------------


def test_each_tool_is_told_from_the_others_and_from_our_own_files(tmp_path):
    examples = {"arena": battle("tie"), "argilla": NESTED, "label-studio": PAIRWISE}
    for tool, row in examples.items():
        assert tool_of(row) == tool
        for other in TOOLS:
            if other != tool:
                with pytest.raises(DataError, match=f"not written by {other} .*looks like {tool}"):
                    read_foreign(write(tmp_path / "x.json", [row]), other)
    assert tool_of({"prompt": {"messages": []}, "response_a": {"text": "x"}}) is None
    assert tool_of({"prompt": "x", "chosen": "y", "rejected": "z"}) is None


TEXTS = st.text(max_size=6) | st.sampled_from(
    ["response-1", "response-2", "left", "model_a", "tie", "submitted", "user", "\ud800", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "arena": battle("model_a"),
    "argilla": NESTED | FLAT,
    "label-studio": PAIRWISE,
}


@st.composite
def mangled(draw: st.DrawFn, sound: object) -> object:
    """A sound example with anything in some of its places."""
    if draw(st.integers(0, 7)) == 0:
        return draw(VALUES)
    if isinstance(sound, dict):
        return {
            key: draw(mangled(value)) for key, value in sound.items() if draw(st.integers(0, 9))
        } | draw(st.dictionaries(TEXTS, VALUES, max_size=1))
    if isinstance(sound, list):
        return [draw(mangled(value)) for value in sound]
    return sound


@pytest.mark.parametrize("tool", TOOLS)
@given(data=st.data())
def test_a_row_that_breaks_a_reader_is_named_in_a_sentence(tool, data, tmp_path_factory):
    row = data.draw(mangled(KEYS[tool]) | mangled(FIRST) | mangled(COLUMNS) | VALUES)
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "x.json"
    path.write_text(json.dumps([row]))
    try:
        haul = read_foreign(str(path), tool)
    except DataError as error:
        assert str(error).startswith(f"{path}")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        unclear = sum(gathered.unclear for gathered in haul.rows)
        assert len(haul.rows) + sum(haul.left_out.values()) - unclear == 1
        for gathered in haul.rows:
            for judged in gathered.judged():
                assert judged.comparison.prompt == gathered.prompt
