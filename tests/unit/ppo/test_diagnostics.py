"""Known troubles are named when they happen, and only then."""

import pytest

from rlhf.rollouts.diagnostics import Diagnostics

HEALTHY = {
    "objective/kl": (0.0, 3.0),
    "objective/scores": (0.0, 2.0),
    "objective/entropy": (2.0, 1.0),
    "response_length": (20.0, 40.0),
    "val/explained_variance": (-0.1, 0.6),
    "policy/first_ratio": (1.0, 1.0),
    "sampling/kl": (0.001, 0.008),
}


def history(num_lines=40, **ends):
    """Every metric on a straight line between its ends; training notes stand between."""
    lines = []
    for place in range(num_lines):
        share = place / (num_lines - 1)
        line = {n: a + share * (b - a) for n, (a, b) in {**HEALTHY, **ends}.items()}
        lines += [line, {"grad_norm": 1.0}]
    return lines


def sentences(lines):
    """All that is said of a log, line by line."""
    reader = Diagnostics()
    return [sentence for line in lines for sentence in reader.add(line)]


def test_a_healthy_run_is_left_in_peace():
    for num_lines in (1, 2, 9, 10, 40):
        assert sentences(history(max(num_lines, 2))[: 2 * num_lines]) == []
    assert sentences([]) == []


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ("other logprobs than the sampler", {"policy/first_ratio": (1.0, 1.5)}),
        ("samples come from another policy", {"sampling/kl": (0.001, 0.1)}),
        ("being exploited; raise kl_coef", {"objective/kl": (2.0, 40.0)}),
        (
            "have grown from 23 to 35 tokens",
            {"response_length": (20.0, 80.0), "objective/scores": (1.0, 1.02)},
        ),
        ("explains nothing", {"val/explained_variance": (-0.2, -0.1)}),
        ("says the same to everybody", {"objective/entropy": (2.0, 0.01)}),
        ("are not judged", {"not_judged": (0.0, 1.0)}),
    ],
)
def test_each_trouble_is_named_by_itself_with_its_remedy_and_once(words, ends):
    [sentence] = sentences(history(**ends))
    assert words in sentence


def test_a_length_that_pays_is_no_trouble():
    assert not sentences(history(response_length=(20.0, 80.0)))


def test_one_bad_rollout_is_no_trouble():
    lines = history()
    lines[-2] = lines[-2] | {"objective/kl": 30.0, "val/explained_variance": -1.0}
    assert not sentences(lines)


def test_a_line_late_in_a_run_is_read_as_quickly_as_an_early_one():
    reader = Diagnostics()
    for line in history(400):
        reader.add(line)
    held = [len(metric.first) + len(metric.last) for metric in reader._seen.values()]
    assert max(held) == 10  # of 400 lines, the first five and the last five
