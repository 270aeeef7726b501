import base64
import hashlib
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.errors import RunError
from rlhf.records import Message, Prompt
from rlhf.report import (
    Answer,
    Case,
    Estimate,
    PolicySummary,
    Report,
    Verdict,
    WinRate,
    case_from_json,
    case_to_json,
    comparison_page,
    write_live_report,
    write_run_report,
)
from rlhf.runs import new_run

EVIL = "</script></style><img src=//evil.example/x onerror=alert(1)>\" ' & ${1} <!-- \u202e"


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.script, self._within = "", "", ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag):
        self._within = "" if tag == self._within else self._within

    def handle_data(self, data):
        if self._within == "script":
            self.script += data
        elif self._within != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def estimate(value):
    return Estimate(value, value - 0.1, value + 0.1)


def case(number, *texts, scores=(1.0, 2.0), share=0.0, finished=True):
    answers = tuple(
        Answer(text, len(text), finished, score, 0.5)
        for text, score in zip(texts, scores, strict=True)
    )
    return Case(Prompt.from_text(f"prompt {number}"), answers, (Verdict(0, 1, share),))


def report(cases, names=("sft", "ppo"), **changes):
    policies = tuple(
        PolicySummary(name, f"runs/{name}", "sft", estimate(20.0), 0.25, estimate(1.0))
        for name in names
    )
    rates = (
        WinRate(names[0], names[1], Estimate(0.375, 0.25, 0.5), 30, 15, 55),
        WinRate(names[1], names[0], Estimate(0.625, 0.5, 0.75), 55, 15, 30),
    )
    return Report("A title", "a judge", names[0], policies, tuple(cases), rates, **changes)


def test_everything_is_text_wherever_it_stands():
    prompt = Prompt((Message("system", EVIL), Message("user", EVIL)))
    evil = Case(prompt, (Answer(EVIL, 3, True), Answer("fine", 1, True)))
    source = comparison_page(
        report([evil], names=(EVIL, "ppo"), settings={EVIL: EVIL}, notes=(EVIL,))
    )
    page = Page(source)
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert page.text.count(EVIL) >= 8


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0")))
def test_any_response_is_found_again_as_text(text):
    page = Page(comparison_page(report([case(1, "x" + text + "x", "b")])))
    assert "x" + text + "x" in page.text


def test_the_page_asks_for_nothing_and_runs_no_script_but_its_own():
    source = comparison_page(report([case(1, "a", "b")]))
    page = Page(source)
    names = {name for _, attributes in page.tags for name in attributes}
    assert not names & {"src", "href", "srcset", "action", "style", "onclick", "onload"}
    assert "url(" not in source
    assert "@import" not in source
    [policy] = [m["content"] or "" for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; ")
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_tables_show_rates_both_ways_with_their_intervals():
    text = re.sub(r"\s+", " ", Page(comparison_page(report([case(1, "a", "b")]))).text)
    assert "37.5 % [25.0, 50.0]" in text
    assert "62.5 % [50.0, 75.0]" in text


def test_a_case_says_which_answer_is_best_and_how_far_apart_they_are():
    cases = [
        case(1, "a", "b", scores=(1.0, 3.0), share=0.0),
        case(2, "a", "b", share=1.0, finished=False),
        case(3, "a", "a", scores=(1.0, 1.0), share=0.5),
    ]
    page = Page(comparison_page(report(cases)))
    shown = page.all("article")
    assert [a["data-best"] for a in shown] == ["1", "0", ""]
    assert [a["data-gap"] for a in shown] == ["2", "1", "0"]
    assert ["data-cut" in a for a in shown] == [False, True, False]
    assert page.text.count("cut off") == 4  # a column, a filter, and two answers


def test_what_is_not_judged_yet_says_so():
    bare = Case(Prompt.from_text("p"), (Answer("a", 1, True), Answer("", 0, True)))
    text = Page(comparison_page(Report("T", "people", "sft", report([]).policies, (bare,)))).text
    assert "Not judged yet." in text
    assert "not judged" in text
    assert "empty" in text


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_a_case_survives_the_file(text):
    before = case(1, text, "b")
    assert case_from_json(json.loads(json.dumps(case_to_json(before)))) == before


def test_a_summary_is_plain_data_without_the_cases():
    summary = json.loads(json.dumps(report([case(1, "a", "b"), case(1, "c", "d")]).summary()))
    assert "cases" not in summary
    assert summary["num_prompts"] == 1
    assert summary["win_rates"][0]["rate"] == {"value": 0.375, "low": 0.25, "high": 0.5}


@dataclass(frozen=True)
class Config:
    out: str
    seed: int = 3
    note: str = EVIL


def make_run(out, stage="sft", **options):
    with new_run(stage, Config(str(out)), **options) as run:
        for step in range(1, 20):
            run.log({"loss": 3.0 / step, "learning_rate": 1e-4}, step)
        run.log({"eval_loss": 0.5, "note": EVIL}, 10)
        run.log({"eval_loss": float("nan")}, 19)
        run.record(samples=[{"prompt": "hello?", "responses": {"before": EVIL, "after": "hi"}}])
    return out


def test_a_run_has_a_page_with_its_config_curves_lineage_and_samples(tmp_path):
    grandparent = make_run(tmp_path / "base", "pretrain")
    parent = make_run(tmp_path / "sft", parents={"base": grandparent})
    path = tmp_path / "ppo" / "report.html"
    assert write_run_report(make_run(path.parent, "ppo", parents={"sft": parent})) == path
    page = Page(path.read_text(encoding="utf-8"))
    assert [s["aria-label"] for s in page.all("svg")] == ["loss", "learning_rate"]
    assert "trainingevaluation" in page.text
    assert f"└─ sft: {parent}" in page.text
    assert f"   └─ base: {grandparent}" in page.text
    assert "seed: 3" in page.text
    assert "hello?" in page.text
    assert EVIL in page.text
    assert len(page.all("script")) == 1
    assert sorted(p.name for p in path.parent.glob("report*")) == ["report.html"]


def test_a_parent_that_is_gone_is_still_named(tmp_path):
    parent = make_run(tmp_path / "sft")
    child = make_run(tmp_path / "ppo", "ppo", parents={"sft": parent})
    parent.rename(tmp_path / "elsewhere")
    path = write_run_report(child)
    assert path is not None
    assert f"sft: {parent}" in Page(path.read_text(encoding="utf-8")).text


def test_an_unfinished_run_has_no_page(tmp_path):
    with pytest.raises(RunError, match="there is no such run"):
        write_run_report(tmp_path / "none")


def test_only_the_first_process_writes_the_page(tmp_path, monkeypatch):
    out = make_run(tmp_path / "sft")
    monkeypatch.setenv("RANK", "1")
    assert write_run_report(out) is None
    assert not (out / "report.html").exists()


def test_a_run_that_goes_on_has_a_page_that_loads_itself_again(tmp_path):
    with new_run("ppo", Config(str(tmp_path / "ppo"))) as run:
        for step in (1, 2, 3):
            run.log({"loss": 1.0 / step}, step)
        write_live_report(run, "step 3 of 9")
        page = Page(run.report.read_text(encoding="utf-8"))
    [again] = [m for m in page.all("meta") if m.get("http-equiv") == "refresh"]
    assert int(again["content"] or 0) > 0
    assert "step 3 of 9" in page.text
    assert [s["aria-label"] for s in page.all("svg")] == ["loss"]
    write_run_report(tmp_path / "ppo")
    done = Page((tmp_path / "ppo" / "report.html").read_text(encoding="utf-8"))
    assert not [m for m in done.all("meta") if m.get("http-equiv") == "refresh"]


def test_each_score_is_drawn_against_the_kl_in_the_order_of_the_rollouts(tmp_path):
    with new_run("ppo", Config(str(tmp_path / "ppo"))) as run:
        for step, (kl, learnt, gold) in enumerate([(0, 0, 5), (2, 1, 7), (4, 2, 3)], start=1):
            scores = {"objective/scores/reward": learnt, "objective/scores/gold": gold}
            run.log({"objective/kl": float(kl)} | scores, step)
            run.log({"loss/policy": 0.0}, step)
    path = write_run_report(tmp_path / "ppo")
    assert path is not None
    source = path.read_text(encoding="utf-8")
    title = "score by nats of KL from the reference"
    assert [s["aria-label"] for s in Page(source).all("svg")][:2] == [
        f"{title}: reward", f"{title}: gold",
    ]  # fmt: skip
    [d] = re.findall(r'class="line c0" d="M([^"]*)"', source.split(f"{title}: gold")[2])[:1]
    places = [tuple(map(float, point.split())) for point in d.split("L")]
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[1][1] < places[0][1] < places[2][1]  # the y of a picture points down
