"""What the card of an export says of tasks that are no plain comparisons, and of skips."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.locales import words_for
from labeling_ui.pages.figures import figures_html
from labeling_ui.results.dashboard import Dashboard
from labeling_ui.results.dataset_card import dataset_card
from labeling_ui.results.export import export, ranked_together
from rlhf.evaluate.agreement import agreement
from rlhf.records import Prompt, Response
from tests.labeling import PASSWORD, cheap_accounts


def answered(store: Store, num_responses: int, said: dict[str, list[Any]], **rules: Any) -> None:
    """Campaign ``one`` of these rules; each rater gave these answers (choice, and more)."""
    work = [
        Task(
            Prompt.from_text(f"Question {number}?"),
            tuple(Response(f"Answer {place}", f"p{place}") for place in range(num_responses)),
        )
        for number in range(3)
    ]
    campaigns = Campaigns(store, draw=lambda n: "".join(map(str, range(n))))
    campaigns.add("one", work, settings=Settings(**rules))
    for name, answers in said.items():
        rater = cheap_accounts(store).add(name, PASSWORD, "rater").id
        for number, (choice, more) in enumerate(answers):
            item = campaigns.next("one", rater).item
            assert item is not None
            answer = Answer(item.assignment, choice, f"{name}-key-{number}", **more)
            campaigns.submit("one", rater, answer)


def card(store: Store) -> str:
    return dataset_card(export(store, "one"), {})


def test_a_skip_that_ends_a_task_is_no_answer(sqlite):
    answered(sqlite, 2, {"ann": [("skip", {}), ("skip", {}), ("left", {})]}, skip="drop")
    assert export(sqlite, "one").status.complete == 3
    assert "| tasks | 3, 1 of them with 1 or more answers |" in card(sqlite)
    assert "| answers | 1, and 2 skips |" in card(sqlite)


ONE_RESPONSE: dict[str, tuple[str, dict[str, Any]]] = {
    "thumbs": ("good", {}),
    "rating": ("rated", {"aspects": {"helpful": 3}}),
    "rewrite": ("rewritten", {"text": "better"}),
}


@pytest.mark.parametrize("kind", ONE_RESPONSE)
def test_one_response_has_no_order(sqlite, kind):
    rules = {"aspects": ("helpful",)} if kind == "rating" else {}
    answered(sqlite, 1, {"ann": [ONE_RESPONSE[kind]] * 2}, kind=kind, **rules)
    assert "order drawn" not in card(sqlite)
    assert ", blind.\n" in card(sqlite)
    assert "| tasks | 3, 2 of them with 1 or more answers |" in card(sqlite)


RANKED = {
    "ann": [("ranked", {"ranking": ((0,), (1,), (2,))})] * 3,
    "bob": [
        ("ranked", {"ranking": order})
        for order in (((0,), (1,), (2,)), ((2,), (1,), (0,)), ((0,), (2,), (1,)))
    ],
}


def test_the_agreement_of_rankings_is_over_pairs_and_resamples_rankings(sqlite):
    answered(sqlite, 3, RANKED, kind="ranking", overlap=2)
    result = export(sqlite, "one")
    tasks = {one.id: one.prompt.id for one in result.comparisons}
    found, apart = agreement(result.votes, tasks=tasks), agreement(result.votes)
    assert found.percent is not None
    assert found.alpha_nominal is not None
    share, alpha = found.percent, found.alpha_nominal
    told = f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}) of pairs of votes on the same"
    assert share.value == pytest.approx(5 / 9)
    assert f"| agreement | {told} two responses agree, 9 pairs of responses |" in card(sqlite)
    told = f"{alpha.value:.3f} ({alpha.low:.3f} to {alpha.high:.3f}), 9 pairs of responses |"
    assert f"| Krippendorff's alpha, nominal | {told}" in card(sqlite)
    assert "each time in an order drawn at random" in card(sqlite)
    with ThreadPoolExecutor(1) as worker:
        figures = Dashboard(sqlite, worker=worker).figures("one", patience=60)
    assert figures is not None
    assert figures.agreement == found != apart
    page = figures_html(figures, "votes", "", words_for({}, None))
    assert "<small>pairs of responses: 9</small>" in page
    assert "tasks: 9" not in page


def test_rankings_that_share_a_pair_are_one():
    shared = ranked_together([["ab", "ac", "bc"], ["xy", "xz", "yz"], ["ac", "ad", "cd"], ["qr"]])
    assert [shared[one] for one in ("ab", "bc", "xy", "ac", "cd")] == [0, 0, 1, 0, 0]
    assert "qr" not in shared, "alone in its task"
