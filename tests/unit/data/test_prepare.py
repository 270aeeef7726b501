import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import DataConfig, SourceConfig
from rlhf.data.mixture import weighted
from rlhf.data.prepare import held_out_ids, load, prompt_id
from rlhf.errors import DataError
from rlhf.records import Demonstration, Feedback, Message, Preference, Prompt, content_hash


def write(tmp_path, rows, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path))


def pair(number, chosen="yes", rejected="no"):
    return {"prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected}


def test_a_prompt_is_held_out_with_all_its_pairs_in_every_stage(tmp_path):
    pairs = [pair(n, chosen) for n in range(200) for chosen in ("yes", "maybe")]
    config = DataConfig(train=[write(tmp_path, pairs)], eval_fraction=0.2)
    found = load(config, Preference)
    held_out = {prompt_id(p) for p in found.eval}
    assert not held_out & {prompt_id(p) for p in found.train}
    assert len(found.eval) == 2 * len(held_out)
    assert 20 <= len(held_out) <= 60
    assert held_out == {prompt_id(p) for p in load(config, Prompt).eval}
    assert held_out == {prompt_id(d) for d in load(config, Demonstration).eval}
    assert found.notes == {"read": 400, "train": len(found.train), "eval": len(found.eval)}


ids = st.lists(st.text(max_size=5).map(content_hash), max_size=30)


@given(ids=ids, fraction=st.floats(0, 0.99))
def test_held_out_prompts_are_some_and_never_all(ids, fraction):
    found = held_out_ids(ids, fraction)
    assert found <= set(ids)
    if fraction and len(set(ids)) > 1:
        assert 0 < len(found) < len(set(ids))
    else:
        assert not found


def test_adding_data_moves_no_prompt_across():
    ids = [content_hash(str(n)) for n in range(500)]
    few, many = held_out_ids(ids[:250], 0.1), held_out_ids(ids, 0.1)
    assert few == many & set(ids[:250])
    assert len(few) > 10


def test_duplicates_are_dropped_once_over_all_sources_and_counted(tmp_path):
    def said(number, completion="yes"):
        return {"prompt": f"Question {number}?", "completion": completion}

    one = write(tmp_path, [said(1), said(2), said(1)])
    two = write(tmp_path, [said(2), said(3), said(3, "no")], "b.jsonl")
    found = load(DataConfig(train=[one, two], eval_fraction=0.0), Demonstration)
    assert [d.messages[0].content[9] for d in found.train] == list("1233")
    assert found.notes["duplicate"] == 2


def test_training_records_whose_prompt_is_in_the_evaluation_set_are_left_out(tmp_path):
    config = DataConfig(
        train=[write(tmp_path, [pair(1), pair(2), pair(2, "other")])],
        eval=[write(tmp_path, [pair(2, "sure")], "eval.jsonl")],
    )
    found = load(config, Preference)
    assert [p.prompt.text for p in found.train] == ["Question 1?"]
    assert [p.chosen for p in found.eval] == ["sure"]
    assert found.notes["held_out_prompt"] == 2
    assert set(found.files) == {config.train[0].path, config.eval[0].path}
    assert all(digest.startswith("sha256:") for digest in found.files.values())


def test_pairs_of_the_same_text_are_left_out_and_refused_where_all_are(tmp_path):
    found = load(
        DataConfig(train=[write(tmp_path, [pair(1), pair(2, "no ", "no")])], eval_fraction=0.0),
        Preference,
    )
    assert (len(found.train), found.notes["same_responses"]) == (1, 1)
    same = write(tmp_path, [pair(1, "no", "no"), pair(1, "no", "no"), pair(2, "no", "no")])
    with pytest.raises(DataError, match="chosen and rejected are the same text in all 3 pairs"):
        load(DataConfig(train=[same]), Preference)


def test_what_has_no_prompt_or_no_reply_is_left_out(tmp_path):
    rows = [{"prompt": p, "completion": "x", "label": True} for p in ([], "Hi")]
    found = load(DataConfig(train=[write(tmp_path, rows)], eval_fraction=0.0), Feedback)
    assert (len(found.train), found.notes["no_prompt"]) == (1, 1)
    rows = [{"prompt": "Hi", "completion": c} for c in (" ", "x")]
    found = load(DataConfig(train=[write(tmp_path, rows)], eval_fraction=0.0), Demonstration)
    assert (len(found.train), found.notes["no_reply"]) == (1, 1)
    assert found.train[0].messages[-1] == Message("assistant", "x")
    with pytest.raises(DataError, match=r"nothing is left to train on of 1 records \(1 no_reply\)"):
        load(DataConfig(train=[write(tmp_path, rows[:1])]), Demonstration)


def test_the_weight_of_a_source_repeats_or_thins_its_training_records(tmp_path):
    one = write(tmp_path, [pair(n) for n in range(40)])
    two = write(tmp_path, [pair(n) for n in range(40, 80)], "b.jsonl")
    heavy = SourceConfig(path=one.path, weight=2.5)
    light = SourceConfig(path=two.path, weight=0.25)
    found = load(DataConfig(train=[heavy, light], eval_fraction=0.0), Preference)
    numbers = [int(p.prompt.text[9:-1]) for p in found.train]
    assert sum(n < 40 for n in numbers) == 100
    assert sum(n >= 40 for n in numbers) == 10
    held = load(DataConfig(train=[heavy], eval_fraction=0.2), Preference).eval
    assert len(held) == len({p.prompt.id for p in held})


@given(items=st.lists(st.integers(), max_size=20), weight=st.floats(0.01, 5))
def test_a_mixture_holds_each_item_as_often_as_its_weight_says(items, weight):
    found = weighted(items, weight)
    assert found == weighted(items, weight)
    assert len(found) == int(weight) * len(items) + round((weight % 1) * len(items))
    for item in items:
        low, high = int(weight), int(weight) + (weight % 1 > 0)
        assert items.count(item) * low <= found.count(item) <= items.count(item) * high


def test_a_preference_is_a_good_and_a_bad_response_unless_they_are_the_same(tmp_path):
    rows = [
        {"prompt": "a", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "b", "chosen": "Same.", "rejected": "Same. "},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load(DataConfig(train=[SourceConfig(path=str(path))], eval_fraction=0.0), Feedback)
    assert [(f.prompt.text, f.response, f.good) for f in found.train] == [
        ("a", "Yes.", True),
        ("a", "No.", False),
    ]
