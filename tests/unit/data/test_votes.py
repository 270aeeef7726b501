import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import DataConfig, SourceConfig
from rlhf.data.prepare import load
from rlhf.data.repeated import settled, vote_share
from rlhf.data.sources import read
from rlhf.data.tokenized import preference_dataset, reward_dataset
from rlhf.errors import DataError
from rlhf.records import Demonstration, Feedback, Preference, Prompt
from rlhf.stages.kto import mismatched
from rlhf.training.trainer import loss_of_votes
from tests import tiny


def write(folder, rows, name="a.jsonl", **keys):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path), **keys)


def pair(number, chosen="yes", rejected="no"):
    return {"prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected}


def forty_to_ten():
    """200 rows, in which each of four pairs is preferred 40 : 10."""
    rows = [pair(n) for n in range(4) for _ in range(40)]
    return rows + [pair(n, "no", "yes") for n in range(4) for _ in range(10)]


def test_repeated_judgements_are_votes_whichever_way_round_and_are_counted(tmp_path, caplog):
    source = write(tmp_path, forty_to_ten()[::-1])
    found = load(DataConfig(train=[source], eval_fraction=0.0), Preference)
    assert [(p.chosen, p.rejected, p.num_votes) for p in found.train] == [("yes", "no", 50)] * 4
    assert [(p.agreement, p.margin) for p in found.train] == [(0.8, 0.6)] * 4
    assert found.notes == {"repeated": 196, "read": 4, "train": 4}
    assert "196 repeated" in caplog.text


def test_a_tie_is_counted_and_is_half_for_each_where_votes_are_learnt(tmp_path, caplog):
    source = write(tmp_path, [pair(1), pair(1, "no", "yes"), pair(2)])
    data = DataConfig(train=[source], eval_fraction=0.0)
    found = load(data, Preference)
    assert [p.prompt.text for p in found.train] == ["Question 2?"]
    assert found.notes["tie"] == 1
    assert "1 tie" in caplog.text
    both = load(data, Preference, "votes").train
    assert [(vote_share(p), p.num_votes) for p in both] == [(0.5, 2), (1.0, None)]


def test_repeated_ratings_are_votes_too(tmp_path):
    rows = [
        {"prompt": "Q?", "completion": text, "label": label}
        for text, labels in {"a": "1101", "b": "10", "c": "0"}.items()
        for label in map(int, labels)
    ]
    data = DataConfig(train=[write(tmp_path, rows)], eval_fraction=0.0)
    found = load(data, Feedback)
    assert [(f.response, f.good) for f in found.train] == [("a", True), ("c", False)]
    assert found.train[0].provenance["num_votes"] == 4
    assert found.notes == {"repeated": 4, "tie": 1, "read": 2, "train": 2}
    assert len(load(data, Feedback, "votes").train) == 7


def test_what_sources_say_of_the_same_pair_is_brought_together(tmp_path):
    one = write(tmp_path, [pair(1), pair(2)])
    two = write(tmp_path, [pair(2, "no", "yes"), pair(2, "no", "yes"), pair(3)], "b.jsonl")
    found = load(DataConfig(train=[one, two], eval_fraction=0.0), Preference)
    assert [(p.prompt.text[9], p.chosen) for p in found.train] == [
        ("1", "yes"), ("2", "no"), ("3", "yes"),
    ]  # fmt: skip
    assert found.train[1].margin == pytest.approx(1 / 3)


def test_a_settled_record_that_is_listed_twice_is_a_copy():
    one = Preference(Prompt.from_text("Q?"), "a", "b", 0.6, 0.8, 5, {"origin": "x:1"})
    other = Preference(Prompt.from_text("Q?"), "a", "b", 0.6, 0.8, 5, {"origin": "x:2"})
    counts = Counter()
    assert settled([one, other], counts) == [one]
    assert counts["duplicate"] == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=40))
def test_settling_agrees_with_counting(votes):
    records = [
        Preference(Prompt.from_text(str(n)), *(("a", "b") if first else ("b", "a")))
        for n, first in votes
    ]
    found = {p.prompt.text: p for p in settled(records, Counter(), keep_ties=True)}
    for n in {n for n, _ in votes}:
        a = sum(first for number, first in votes if number == n)
        total = sum(number == n for number, _ in votes)
        one = found[str(n)]
        share = vote_share(one) if one.chosen == "a" else 1 - vote_share(one)
        assert share == pytest.approx(a / total)
        assert (one.num_votes or 1) == total


def voted(outcomes, prompt="Q?"):
    return {"prompt": prompt, "response_a": "good", "response_b": "poor", "votes": outcomes}


def test_what_most_called_bad_is_left_out_unless_asked_for(tmp_path, caplog):
    bad = write(tmp_path, [voted(["a", *["both_bad"] * 4]), voted(["a"], "R?")])
    assert [p.prompt.text for p in read(bad, Preference)] == ["R?"]
    assert "1 both bad" in caplog.text
    asked = SourceConfig(path=bad.path, min_agreement=0.0)
    assert len(read(asked, Preference)) == 2


def test_sources_leave_out_what_too_few_agree_on_or_voted_for(tmp_path):
    rows = [voted(["a"] * 3 + ["b"] * 2), voted(["a"] * 5, "R?"), voted(["b"], "S?")]
    source = write(tmp_path, rows)
    counts = Counter()
    strict = SourceConfig(path=source.path, min_agreement=0.7, min_votes=2)
    assert [p.prompt.text for p in read(strict, Preference, counts)] == ["R?"]
    assert counts == {"below_min_agreement": 1, "below_min_votes": 1}


def test_sft_imitates_no_winner_that_most_did_not_prefer(tmp_path):
    record = pair(1) | {"prompt": {"messages": [{"role": "user", "content": "Q?"}]}}
    rows = [record | {"agreement": share, "margin": 0.2, "num_votes": 5} for share in (0.2, 0.6)]
    rows[1]["prompt"] = {"messages": [{"role": "user", "content": "R?"}]}
    source, counts = write(tmp_path, rows), Counter()
    [found] = read(source, Demonstration, counts)
    assert found.messages[0].content == "R?"
    assert counts == {"below_min_agreement": 1}


def test_ties_and_unanswered_tasks_are_counted(tmp_path):
    source, counts = (
        write(tmp_path, [voted(["tie"]), voted([], "R?"), voted(["a"], "S?")]),
        Counter(),
    )
    assert len(read(source, Preference, counts)) == 1
    assert counts == {"tie": 1, "unanswered": 1}


def test_who_votes_again_on_the_same_pair_counts_once_with_the_last_vote(tmp_path):
    base = {"prompt": "Q?", "response_a": "x", "response_b": "y"}
    rows = [base | {"rater": r, "vote": v} for r, v in (("ann", "a"), ("bob", "b"), ("ann", "b"))]
    counts = Counter()
    [found] = read(write(tmp_path, rows), Preference, counts)
    assert (found.chosen, found.num_votes, counts["repeated_vote"]) == ("y", 2, 1)


def annotation(number, side="left", **keys):
    result = [{"type": "pairwise", "from_name": "pw", "value": {"selected": side}}]
    return {"id": number, "completed_by": number, "result": result} | keys


def test_an_annotation_counts_once_and_what_is_no_answer_is_counted(tmp_path, caplog):
    task = {
        "id": 1,
        "data": {"prompt": "Q?", "answer1": "x", "answer2": "y"},
        "annotations": [
            annotation(1),
            annotation(2),
            annotation(3, was_cancelled=True),
            annotation(4, result=[]),
        ],
    }
    [found] = read(write(tmp_path, [task, task]), Preference)
    assert (found.chosen, found.num_votes) == ("x", 2)
    assert "2 cancelled annotation" in caplog.text
    assert "2 empty annotation" in caplog.text


def test_a_battle_that_is_listed_twice_counts_once(tmp_path):
    talks = {
        f"conversation_{side}": [
            {"role": "user", "content": "Q?"},
            {"role": "assistant", "content": side},
        ]
        for side in "ab"
    }
    row = {"question_id": "7", "winner": "model_a", "judge": "ann", "anony": True} | talks
    row |= {"model_a": "m", "model_b": "n"}
    [found] = read(write(tmp_path, [row, row, row | {"question_id": "8"}]), Preference)
    assert (found.chosen, found.num_votes) == ("a", 2)


def test_ranks_that_are_strings_are_read(tmp_path):
    ranks = [{"value": "response-1", "rank": "2"}, {"value": "response-2", "rank": "1"}]
    row = {
        "fields": {"prompt": "Q?", "response-1": "x", "response-2": "y"},
        "responses": [
            {"user_id": "u", "status": "submitted", "values": {"better": {"value": ranks}}}
        ],
    }
    [found] = read(write(tmp_path, [row]), Preference)
    assert (found.chosen, found.rejected) == ("y", "x")


@pytest.mark.parametrize("bad", [False, "false"])
def test_what_is_called_bad_is_never_imitated(tmp_path, bad):
    said = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "x"}]
    rows = [
        {"messages": said, "label": bad},
        {"messages": [*said[:1], said[1] | {"content": "y"}], "label": True},
    ]
    [found] = read(write(tmp_path, rows), Demonstration)
    assert found.messages[-1].content == "y"
    assert [f.good for f in read(write(tmp_path, rows), Feedback)] == [False, True]
    alpaca = [{"instruction": "Q?", "output": t, "kto_tag": t == "y"} for t in "xy"]
    [found] = read(write(tmp_path, alpaca), Demonstration)
    assert found.messages[-1].content == "y"


def test_a_negative_margin_is_refused():
    record = Preference(Prompt.from_text("Q?"), "a", "b", -0.5, provenance={"origin": "f:3"})
    data = DataConfig(train=[SourceConfig(path="f")])
    with pytest.raises(DataError, match=r"f:3: has the negative margin -0\.5"):
        reward_dataset([record], tiny.tokenizer(), data, use_margin=True)


def test_the_mean_over_weighted_pairs_is_that_over_all_votes():
    votes = {"x": (40, 10), "y": (1, 2), "z": (1, 1)}
    records = settled(
        [
            Preference(Prompt.from_text(name), *sides)
            for name, (a, b) in votes.items()
            for sides in [("good", "poor")] * a + [("poor", "good")] * b
        ],
        Counter(),
        keep_ties=True,
    )
    data = DataConfig(train=[SourceConfig(path="f")])
    for dataset in (preference_dataset, reward_dataset):
        rows = dataset(records, tiny.tokenizer(), data, labels="votes")
        lead = torch.tensor([1.3, -0.4, 0.2], dtype=torch.float64, requires_grad=True)
        signs = torch.tensor([1.0 if p.chosen == "good" else -1.0 for p in records])
        share, weight = (torch.tensor(rows[n], dtype=torch.float64) for n in ("share", "weight"))
        loss = loss_of_votes(lead * signs, share, weight).mean()
        [slope] = torch.autograd.grad(loss, lead)
        total = sum(a + b for a, b in votes.values())
        value = sum(
            a * math.log1p(math.exp(-x)) + b * math.log1p(math.exp(x))
            for (a, b), x in zip(votes.values(), lead.tolist(), strict=True)
        )
        assert loss.item() == pytest.approx(value / total)
        for (a, b), x, found in zip(votes.values(), lead.tolist(), slope.tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            assert found == pytest.approx((b * p - a * (1 - p)) / total)


def test_a_row_alone_in_its_batch_has_the_response_of_another():
    rows = [{"prompt_ids": [n], "completion_ids": [n]} for n in range(3)]
    for row, other in ((rows[0], 1), (rows[2], 0)):
        found = mismatched([row], lambda batch: batch[0], rows[:2])
        assert found["KL_completion_ids"] == [other]


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=3) | st.sampled_from("ab")
)


@given(st.lists(st.fixed_dictionaries({}, optional={
    "id": VALUES, "completed_by": VALUES, "was_cancelled": VALUES,
    "result": VALUES | st.lists(st.just({"type": "pairwise", "value": {"selected": "left"}}))
}), max_size=4))  # fmt: skip
def test_any_annotations_are_votes_or_one_clear_error(tmp_path_factory, annotations):
    folder = tmp_path_factory.mktemp("any")
    task = {
        "id": 1,
        "data": {"prompt": "Q?", "answer1": "x", "answer2": "y"},
        "annotations": annotations,
    }
    try:
        found = read(write(folder, [task]), Preference)
    except DataError as error:
        assert "a.jsonl" in str(error)  # noqa: PT017 - either is right
    else:
        assert all(p.chosen == "x" and p.num_votes for p in found)
