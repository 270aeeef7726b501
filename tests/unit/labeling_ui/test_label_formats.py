from hashlib import sha256
from itertools import combinations

import pytest
from datasets import load_dataset, load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from labeling_ui.campaigns.tasks import Task
from labeling_ui.results.answers import RaterCount, Status
from labeling_ui.results.export import Export, Tie, export
from labeling_ui.results.export_folder import write_folder
from labeling_ui.results.formats import FORMATS, lists_of
from rlhf.config import SourceConfig
from rlhf.data.readers.containers import write_rows
from rlhf.data.sources import read
from rlhf.errors import DataError
from rlhf.records import Feedback, Message, Preference, Prompt, Response, Tally, Vote
from tests.unit.labeling_ui.test_label_kinds import start, task

TWO_TURNS = Prompt(
    (Message("system", "Be brief."), Message("user", "Where is it?")), {"origin": "a.jsonl:1"}
)
STATUS = Status("one", 1, 2, 2, 3, 0, (RaterCount("ann", 3, 0),), None)


def preference(chosen: str, rejected: str, prompt: Prompt = TWO_TURNS) -> Preference:
    notes = {"comparison": "0" * 16, "chosen_policy": "sft", "rejected_policy": "ppo"}
    return Preference(prompt, chosen, rejected, 0.5, 0.75, 4, notes)


def pairs(*preferences: Preference) -> Export:
    vote = Vote("0" * 16, "ann", "a", "left")
    tie = Tie("1" * 16, Tally(tie=1))
    return Export(STATUS, "pairwise", "", votes=(vote,), preferences=preferences, ties=(tie,))


REPLY = [{"role": "assistant", "content": "On Monday.\u2028Or \"Tuesday\"."}]  # fmt: skip
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}]


def test_a_pair_has_trls_columns_and_no_margin_that_would_change_its_loss():
    [row] = lists_of(pairs(preference(REPLY[0]["content"], "No.")), "trl-paired")["preferences"]
    assert row == {
        "prompt": ASKED,
        "chosen": REPLY,
        "rejected": [{"role": "assistant", "content": "No."}],
        "agreement": 0.75,
        "num_votes": 4,
        "comparison": "0" * 16,
        "chosen_policy": "sft",
        "rejected_policy": "ppo",
    }


def test_a_response_that_won_and_lost_is_neither_good_nor_bad():
    won = [preference("best", "middle"), preference("middle", "worst"), preference("best", "worst")]
    rows = lists_of(pairs(*won), "trl-unpaired")["feedback"]
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        ("best", True),
        ("worst", False),
    ]
    assert {row["policy"] for row in rows} == {"sft", "ppo"}


def test_the_same_text_to_another_prompt_is_another_response():
    other = Prompt.from_text("Another?")
    rows = lists_of(pairs(preference("x", "y"), preference("y", "x", other)), "trl-unpaired")
    assert len(rows["feedback"]) == 4


def test_thumbs_are_unpaired_as_they_stand():
    one = Feedback(TWO_TURNS, "No.", False, {"policy": "sft", "agreement": 1.0, "num_votes": 2})
    result = Export(STATUS, "thumbs", "", feedback=(one,), answers=({"rater": "ann"},))
    [row] = lists_of(result, "trl-unpaired")["feedback"]
    assert (row["prompt"], row["label"], row["policy"], row["num_votes"]) == (
        ASKED, False, "sft", 2
    )  # fmt: skip


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "records"])
def test_ties_alone_are_nothing_to_train_on(form, tmp_path):
    with pytest.raises(DataError, match=f"'one' has no .* to write as {form} .*1 ties"):
        write_folder(pairs(), tmp_path / "out", form)
    assert list(tmp_path.iterdir()) == []


def test_rankings_go_from_the_best_to_the_worst_and_say_where_they_tie(store):
    work = [task(1, "worst", "middle", "best"), task(2, "x", "y", "z"), task(3, "p", "q")]
    _, ann, bob = start(store, work, "ann", "bob", kind="ranking", overlap=2)
    # shown in reverse: place 0 is the last response
    ann.answer("ranked", ranking=((0,), (1,), (2,)))
    bob.answer("ranked", ranking=((0,), (1, 2)))
    ann.answer("ranked", ranking=((0,), (1,), (2,)))  # z > y > x
    bob.answer("ranked", ranking=((2,), (0,), (1,)))  # x > z > y
    for rater in (ann, bob):
        rater.answer("skip")
    lists = lists_of(export(store, "one"), "trl-ranked")
    assert [(row["responses"], row["ranks"]) for row in lists["rankings"]] == [
        (["best", "middle", "worst"], [1, 2, 3]),
        (["z", "x", "y"], [1, 2, 3]),
    ]
    assert lists["rankings"][0]["policies"] == ["policy-2", "policy-1", "policy-0"]
    assert {row["num_votes"] for row in lists["rankings"]} == {2}
    assert list(lists) == ["rankings", "preferences"]


def test_where_raters_contradict_each_other_responses_share_a_rank(store):
    _, ann, bob = start(
        store, [task(1, "a", "b", "c", "d")], "ann", "bob", kind="ranking", overlap=2
    )
    ann.answer("ranked", ranking=((3,), (2,), (1,), (0,)))  # a > b > c > d
    bob.answer("ranked", ranking=((3,), (1,), (2,), (0,)))  # a > c > b > d
    [ranking] = export(store, "one").rankings
    assert [r.text for r in ranking.responses] == ["a", "b", "c", "d"]
    assert ranking.ranks == (1, 2, 2, 4)


def test_in_a_ranking_a_tie_is_worth_half_of_a_win(store):
    _, ann, bob = start(store, [task(1, "a", "b", "c")], "ann", "bob", kind="ranking", overlap=2)
    ann.answer("ranked", ranking=((2, 1), (0,)))  # a = b > c
    bob.answer("ranked", ranking=((0,), (2,), (1,)))  # c > a > b
    [ranking] = export(store, "one").rankings
    # mean places: a 1.75, c 2, b 2.25
    assert [r.text for r in ranking.responses] == ["a", "c", "b"]
    assert ranking.ranks == (1, 2, 3)


def test_in_a_pairwise_campaign_a_tie_is_a_shared_rank(store):
    work = [task(n, "x", "y") for n in (1, 2, 3)]
    _, ann = start(store, work, "ann")
    for choice in ("left", "tie", "both_bad"):  # y stands left
        ann.answer(choice)
    found = export(store, "one").rankings
    assert [([r.text for r in one.responses], one.ranks) for one in found] == [
        (["y", "x"], (1, 2)),
        (["x", "y"], (1, 1)),
        (["x", "y"], (1, 1)),
    ]


def test_what_is_written_is_read_back_from_every_container(store, tmp_path):
    work = [
        Task(TWO_TURNS, (Response("On Monday.", "sft"), Response("No.\u0085", "ppo"))),
        task(2, "x", "y"),
        task(3, "x", "y"),
    ]
    _, ann = start(store, work, "ann")
    for choice in ("right", "left", "tie"):
        ann.answer(choice)
    result = export(store, "one")
    told = {(p.prompt.id, p.chosen, p.rejected) for p in result.preferences}
    assert len(told) == 2
    for form in FORMATS:
        for container in ("jsonl", "parquet", "datasets"):
            folder = tmp_path / f"{form}-{container}"
            write_folder(result, folder, form, container)
            source = SourceConfig(path=str(folder))
            if form != "trl-unpaired":
                found = {(p.prompt.id, p.chosen, p.rejected) for p in read(source, Preference)}
                assert found == told, folder
            rated = {(f.prompt.id, f.response, f.good) for f in read(source, Feedback)}
            good = {(prompt, text, True) for prompt, text, _ in told}
            assert rated == good | {(prompt, text, False) for prompt, _, text in told}


@pytest.mark.parametrize("container", ["jsonl", "parquet", "datasets"])
def test_the_card_opens_the_files_and_tells_their_hashes(container, tmp_path):
    folder = tmp_path / "out"
    write_folder(pairs(preference("x", "y")), folder, "trl-paired", container)
    card = (folder / "README.md").read_text()
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "README.md"]
    assert files
    for path in files:
        digest = sha256(path.read_bytes()).hexdigest()
        assert f"| {path.relative_to(folder)} | `{digest}` |" in card
    if container == "datasets":
        assert 'load_from_disk("preferences")' in card
        loaded = load_from_disk(str(folder / "preferences"))
    else:
        loaded = load_dataset(str(folder), "preferences", cache_dir=str(tmp_path))["train"]
    assert loaded[0]["chosen"] == [{"role": "assistant", "content": "x"}]
    assert "without the `margin`" in card.lower()


def test_rows_that_fit_no_column_are_refused_and_nothing_is_left(tmp_path):
    notes = [{"origin": "x"}, {"origin": {"line": 1}}]
    mixed = [Preference(TWO_TURNS, "x", str(n), provenance=one) for n, one in enumerate(notes)]
    with pytest.raises(DataError, match=r"preferences: the rows do not fit into columns .*jsonl"):
        write_folder(pairs(*mixed), tmp_path / "out", container="parquet")
    hollow = Preference(TWO_TURNS, "x", "y", provenance={"notes": {}})
    with pytest.raises(DataError, match=r"preferences: .*write it as jsonl"):
        write_folder(pairs(hollow), tmp_path / "out", container="parquet")
    assert list(tmp_path.iterdir()) == []
    write_folder(pairs(*mixed, hollow), tmp_path / "out")
    assert len(read(SourceConfig(path=str(tmp_path / "out")), Preference)) == 3


def test_a_column_may_begin_in_a_later_row(tmp_path):
    write_rows(tmp_path, "rows", [{"a": 1}, {"a": 2, "b": "x"}], "parquet")
    [path] = tmp_path.iterdir()
    loaded = load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_thumbs_are_found_in_their_folder_without_naming_the_file(store, tmp_path):
    _, ann = start(store, [task(1, "fine"), task(2, "poor")], "ann", kind="thumbs")
    ann.answer("good")
    ann.answer("bad")
    write_folder(export(store, "one"), tmp_path / "out")
    found = read(SourceConfig(path=str(tmp_path / "out")), Feedback)
    assert [(f.response, f.good) for f in found] == [("fine", True), ("poor", False)]


PLACES = st.lists(st.permutations(range(4)), min_size=1, max_size=5)


@given(PLACES)
def test_the_mean_place_of_each_response_decides(answers):
    from labeling_ui.results.answers import GivenAnswer
    from labeling_ui.results.export import _ranking  # pyright: ignore[reportPrivateUsage]

    work = task(1, "a", "b", "c", "d")
    given_ = [
        GivenAnswer(
            1, "r", "ranked", "0123", "pool", {"ranking": [[r] for r in one]}, None, "", "", ""
        )
        for one in answers
    ]
    found = _ranking(work, given_)
    assert found is not None
    mean = {text: sum(one.index(i) for one in answers) for i, text in enumerate("abcd")}
    places = [mean[response.text] for response in found.responses]
    assert places == sorted(places)
    for (p, rank), (q, other) in combinations(zip(places, found.ranks, strict=True), 2):
        assert (p == q) == (rank == other)
