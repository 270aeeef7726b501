import json
from hashlib import sha256

import pytest
from sqlalchemy import update

from labeling_ui.campaigns.answers import Answer, Choice
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import NotFound
from labeling_ui.db.tables import AssignmentRow
from labeling_ui.results.answers import all_status, status_of
from labeling_ui.results.dataset_card import dataset_card
from labeling_ui.results.export import export
from labeling_ui.results.export_folder import write_folder
from rlhf.errors import DataError
from rlhf.evaluate.agreement import agreement
from rlhf.records import Comparison, Preference, Vote, from_json, settle
from tests.labeling import PASSWORD, cheap_accounts, tasks


def judged(store, table: dict[str, list[Choice]], overlap: int = 3):
    """Campaign ``one`` where each rater gave these answers in order; a always stands left."""
    accounts = cheap_accounts(store)
    campaigns = Campaigns(store, draw=lambda _: "01")
    rules = Settings(overlap=overlap)
    campaigns.add("one", tasks(4), settings=rules, guidelines="Be *fair*.")
    for name, choices in table.items():
        rater = accounts.add(name, PASSWORD, "rater").id
        for number, choice in enumerate(choices):
            item = campaigns.next("one", rater).item
            assert item is not None
            key = f"{name}-key-{number:03}"
            campaigns.submit("one", rater, Answer(item.assignment, choice, key))


VOTES: dict[str, list[Choice]] = {
    "ann": ["left", "left", "tie"],
    "bob": ["left", "right", "skip"],
    "cy": ["right", "both_bad", "skip"],
}


def test_status_counts_votes_skips_and_complete_comparisons(store):
    judged(store, VOTES)
    status = status_of(store, "one")
    assert (status.comparisons, status.complete, status.votes, status.skips) == (4, 2, 7, 2)
    assert [(r.name, r.votes, r.skips) for r in status.raters] == [
        ("ann", 3, 0),
        ("bob", 2, 1),
        ("cy", 2, 1),
    ]
    # Pairs on the first: aa agree, ab, ab; on the second: ab, a-bad, b-bad.
    assert status.agreement == pytest.approx(1 / 6)
    assert all_status(store) == [status]


def test_without_two_votes_on_anything_there_is_no_agreement(store):
    judged(store, {"ann": ["left", "tie"]})
    assert status_of(store, "one").agreement is None


def test_an_export_settles_each_comparison_and_keeps_ties_apart(store):
    judged(store, VOTES)
    data = export(store, "one").to_json()
    records = [from_json(Comparison, row) for row in data["comparisons"]]
    votes = [from_json(Vote, row) for row in data["votes"]]
    [preference] = [from_json(Preference, row) for row in data["preferences"]]
    assert len(records) == 4
    assert len(votes) == 9
    assert preference == settle(records[0], [v for v in votes if v.comparison == records[0].id])
    assert preference.chosen == records[0].response_a.text
    assert (preference.margin, preference.agreement) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert data["ties"] == [
        {"comparison": records[1].id, "counts": {"a": 1, "b": 1, "tie": 0, "both_bad": 1}},
        {"comparison": records[2].id, "counts": {"a": 0, "b": 0, "tie": 1, "both_bad": 0}},
    ]


def test_an_export_of_nothing_known_is_refused(store):
    with pytest.raises(NotFound, match="no campaign 'none'"):
        export(store, "none")


def test_a_folder_holds_the_export_and_says_what_it_is(store, tmp_path):
    judged(store, VOTES)
    result = export(store, "one")
    folder = tmp_path / "new" / "out"
    write_folder(result, folder)
    for name, rows in result.to_json().items():
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == rows
    card = (folder / "README.md").read_text()
    for fact in (
        "two responses to a prompt, blind, each time in an order drawn at random.\n",
        ") of pairs of votes on the same task agree, 2 tasks |",
        "| ann | 3 | 0 |",
        "Be *fair*.",
        "| ties | 2 |",
        "| tasks | 4, 2 of them with 3 or more answers |",
    ):
        assert fact in card
    for name in result.to_json():
        digest = sha256((folder / f"{name}.jsonl").read_bytes()).hexdigest()
        assert f"| {name}.jsonl | `{digest}` |" in card
    assert sorted(p.name for p in folder.parent.iterdir()) == ["out"]


def test_the_card_tells_agreement_as_the_pure_functions_work_it_out(store):
    judged(store, VOTES)
    result = export(store, "one")
    found = agreement(result.votes)
    assert found.percent is not None
    assert found.fleiss is not None
    assert found.alpha_nominal is not None
    card = dataset_card(result, {})
    assert f"| agreement | 16.7% ({found.percent.low:.1%} to {found.percent.high:.1%}) of" in card
    fleiss, alpha = found.fleiss, found.alpha_nominal
    told = f"{fleiss.value:.3f} ({fleiss.low:.3f} to {fleiss.high:.3f}), 2 tasks |"
    assert f"| Fleiss' kappa, 3 votes each | {told}" in card
    told = f"{alpha.value:.3f} ({alpha.low:.3f} to {alpha.high:.3f}), 2 tasks |"
    assert f"| Krippendorff's alpha, nominal | {told}" in card


def test_an_adjudicator_does_not_count_towards_how_well_raters_agree(store):
    judged(store, VOTES)
    before = export(store, "one")
    with store.write() as session:
        session.execute(
            update(AssignmentRow).where(AssignmentRow.id == 1).values(source="adjudicate")
        )
    after = export(store, "one")
    assert len(after.votes) == len(before.votes) == len(after.independent) + 1
    # the first task is left with a and b of bob and cy: no two votes on anything agree
    assert after.status.agreement == 0.0
    assert "| agreement | 0.0% (" in dataset_card(after, {})


def test_a_folder_is_never_overwritten_nor_left_half_done(store, tmp_path):
    judged(store, VOTES)
    result = export(store, "one")
    with pytest.raises(DataError, match="exists already"):
        write_folder(result, tmp_path)
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_folder(result, blocker / "out")
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_without_votes_there_is_nothing_to_export(store, tmp_path):
    Campaigns(store).add("one", tasks(1))
    with pytest.raises(DataError, match="no votes yet"):
        write_folder(export(store, "one"), tmp_path / "out")


def test_the_card_offers_only_what_there_is(store):
    judged(store, {"ann": ["left"]})
    card = dataset_card(export(store, "one"), {})
    assert card.startswith("---\nconfigs:\n- config_name: preferences\n")
    assert "votes.jsonl\n  default: false\n" in card
    assert "config_name: ties" not in card


def test_the_card_says_so_where_nobody_can_disagree(store, tmp_path):
    judged(store, {"ann": ["left"]})
    write_folder(export(store, "one"), tmp_path / "out")
    assert "no task has two votes yet" in (tmp_path / "out" / "README.md").read_text()
