"""The demo, small: every part connected, resumable, and telling what it found."""

import json

import pytest

from rlhf.apps.demo import DemoOptions, Sizes, run
from rlhf.errors import RunError
from rlhf.runs import open_run

pytestmark = pytest.mark.slow

SIZES = Sizes(
    demonstrations=160,
    comparisons=48,
    held_out=40,
    prompts=64,
    rollouts=2,
    eval_prompts=12,
    samples=2,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished demo and what it told."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    told = []
    run(DemoOptions(out=out, sizes=SIZES), told.append)
    return out, "\n".join(told)


def test_every_policy_and_bound_is_in_the_table(demo):
    _, told = demo
    for row in ("sft", "dpo", "ppo", "scripted ideal", "best constant reply", "shortest of 2"):
        assert f"| {row} |" in told
    assert "of the panel's own ceiling" in told
    assert "TF-IDF" in told


def test_every_stage_is_a_finished_run_on_one_base(demo):
    out, _ = demo
    runs = [open_run(out / name) for name in ("sft", "reward", "dpo", "ppo")]
    assert [found.stage for found in runs] == ["sft", "reward", "dpo", "ppo"]
    assert len({found.facts["base"]["fingerprint"] for found in runs}) == 1
    assert {found.facts["base"]["storage"] for found in runs} == {"nf4"}


def test_the_report_and_the_time_of_each_part_are_there(demo):
    out, told = demo
    assert str(open_run(out / "compare").comparison) in told
    assert open_run(out / "compare").comparison.exists()
    seconds = json.loads((out / "seconds.json").read_text())
    parts = {"sft", "sample", "label", "reward", "dpo", "ppo", "compare", "other"}
    assert seconds.keys() == parts
    assert told.count("── sample") == 2


def test_a_finished_demo_resumes_to_the_same_figures(demo):
    out, _ = demo
    before = (out / "figures.json").read_text()
    run(DemoOptions(out=out, sizes=SIZES, resume=True), lambda _: None)
    assert (out / "figures.json").read_text() == before


def test_a_folder_in_use_is_refused(demo):
    out, _ = demo
    with pytest.raises(RunError, match="give another --out, or --resume"):
        run(DemoOptions(out=out), lambda _: None)
