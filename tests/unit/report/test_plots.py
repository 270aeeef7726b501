import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.report.plots import (
    Series,
    columns,
    forest,
    histograms,
    interval,
    lines,
    number,
    ticks,
    with_range,
)
from rlhf.report.records import Estimate

values = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (-1.5, "\N{MINUS SIGN}1.5"),
        (12345.6, "12,346"),
        (0.00015, "1.5e\N{MINUS SIGN}4"),
        (3e7, "3e7"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert number(value) == text


@given(low=values, span=st.floats(1e-6, 1e9))
def test_ticks_are_few_evenly_spaced_and_inside(low, span):
    high = low + span
    found = ticks(low, high)
    assert 1 <= len(found) <= 10
    slack = 1e-6 * max(abs(low), abs(high), span)
    assert all(low - slack <= tick <= high + slack for tick in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(step == pytest.approx(steps[0], rel=1e-3, abs=slack) for step in steps)


def test_ticks_are_round():
    assert ticks(0, 10) == [0, 2.5, 5, 7.5, 10]
    assert ticks(-1.3, 4.2) == [0, 2, 4]


def test_a_line_breaks_where_a_value_is_missing_and_a_lone_point_is_marked():
    drawn = lines("loss", [Series("training", [1.0, None, 3.0, float("nan"), *[2.0] * 12])])
    [path] = re.findall(r'class="line c0" d="([^"]*)"', drawn)
    assert path.count("M") == 3
    assert drawn.count("<circle") == 2


def test_a_line_goes_from_corner_to_corner():
    drawn = lines("loss", [Series("", [0.0, 1.0], [10, 20])])
    assert 'd="M46.0 168.0L330.0 8.0"' in drawn


def test_a_long_curve_is_thinned_and_keeps_its_end():
    drawn = lines("loss", [Series("training", [float(i % 7) for i in range(100_000)] + [9.0])])
    [path] = re.findall(r'class="line c0" d="([^"]*)"', drawn)
    assert path.count("L") <= 401
    assert path.endswith("L330.0 8.0")


def test_nothing_is_drawn_without_numbers():
    assert lines("loss", [Series("training", [None, float("nan")])]) == ""
    assert histograms("score", [Series("sft", [None])]) == ""


def heights(drawn, colour):
    """Heights of the bars of one histogram, from left to right."""
    [path] = re.findall(rf'class="bar c{colour}" d="([^"]*)"', drawn)
    return [float(h) for h in re.findall(r"v-([\d.]+)", path)]


def test_bars_are_as_high_as_values_are_many():
    first, second = Series("sft", [0.0, 0.0, 0.0, 1.0]), Series("ppo", [1.0, 1.0])
    drawn = histograms("score", [first, second], num_bins=2)
    low, high = heights(drawn, 0)
    assert low == pytest.approx(3 * high, abs=0.2)
    assert heights(drawn, 1) == [pytest.approx(2 * high, abs=0.2)]


def test_a_series_without_numbers_has_no_row_and_the_others_keep_their_colour():
    drawn = histograms("KL", [Series("sft", [None]), Series("ppo", [1.0, 2.0])])
    assert "sft" not in drawn
    assert 'class="bar c0"' not in drawn
    assert heights(drawn, 1)


@given(st.lists(values, min_size=1, max_size=30))
def test_every_value_is_drawn_inside_the_frame(y):
    drawn = lines("x", [Series("", y)]) + histograms("x", [Series("", y)])
    places = re.findall(r"[ML]([\d.-]+) ([\d.-]+)", " ".join(re.findall(r'd="([^"]*)"', drawn)))
    assert all(45 <= float(x) <= 331 and 7 <= float(y_) <= 191 for x, y_ in places)


def test_titles_and_names_are_text():
    drawn = lines("<b>", [Series("<i>", [1.0]), Series("&", [2.0])])
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "&lt;i&gt;" in drawn


def test_an_interval_is_drawn_to_scale():
    drawn = interval(Estimate(0.6, 0.25, 0.75))
    assert 'd="M25.0 6H75.0"' in drawn
    assert 'cx="60.0"' in drawn


def test_columns_stand_side_by_side_as_high_as_their_numbers():
    drawn = columns("votes", [2, 0, 4], ["nine", "ten", "<eleven>"])
    bars = re.findall(r'class="bar c0" d="M([\d.]+) 168V([\d.]+)h([\d.]+)', drawn)
    # the plot is 284 wide from 46, and 160 high down to 168
    places = [tuple(map(float, bar)) for bar in bars]
    assert [x for x, _, _ in places] == pytest.approx([46, 46 + 2 * 284 / 3], abs=0.1)
    assert [168 - y for _, y, _ in places] == [80, 160]
    assert all(width < 284 / 3 for _, _, width in places)
    assert "<title>nine: 2</title>" in drawn
    assert ">&lt;eleven&gt;</text>" in drawn
    assert "ten" not in drawn
    assert columns("votes", [], []) == ""


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_columns_stay_in_the_frame(heights):
    drawn = columns("votes", heights, [str(i) for i in range(len(heights))])
    assert drawn.count('class="bar') == sum(height > 0 for height in heights)
    tops = re.findall(r'class="bar c0" d="M([\d.]+) 168V([\d.]+)h([\d.]+)', drawn)
    assert all(float(x) >= 46 and 7.9 <= float(y) <= 168 for x, y, _ in tops)
    assert all(float(x) + float(width) <= 331 for x, _, width in tops)


def test_a_forest_draws_points_and_intervals_to_one_scale():
    rows = [("ppo", Estimate(1.0, 0.5, 1.5)), ("<sft>", Estimate(-1.0, -2.0, 0.0))]
    drawn = forest("strength", rows)
    [[low, high], [lower, higher]] = [
        [float(end) for end in ends]
        for ends in re.findall(r'class="range" d="M([\d.]+) [\d.]+H([\d.]+)"', drawn)
    ]
    assert high - low == pytest.approx((higher - lower) / 2, abs=0.2)
    at = [float(x) for x in re.findall(r'class="dot c0" cx="([\d.]+)"', drawn)]
    assert at == pytest.approx([(low + high) / 2, (lower + higher) / 2], abs=0.2)
    [middle] = re.findall(r'class="mean" d="M([\d.]+) ', drawn)
    assert float(middle) == higher, "both are at 0"
    assert "&lt;sft&gt;" in drawn
    assert "1.00 [0.50, 1.50]" in drawn


def test_an_interval_without_end_runs_to_the_edge_and_is_not_spelled():
    endless = Estimate(0.25, float("-inf"), float("inf"))
    assert with_range(endless) == "0.25"
    assert with_range(Estimate(-0.25, -0.5, 0)) == "\N{MINUS SIGN}0.25 [\N{MINUS SIGN}0.50, 0.00]"
    assert with_range(Estimate(-0.001, -0.002, 0)) == "0.00 [0.00, 0.00]"
    assert 'd="M10.0 34H330.0"' in forest("strength", [("ppo", endless)])
    assert forest("strength", [("ppo", Estimate(float("nan"), float("nan"), float("nan")))]) == ""
    assert forest("strength", []) == ""
