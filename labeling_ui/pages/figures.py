"""The figures of a campaign as HTML: votes over time, agreement, leaderboard, raters."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING

from labeling_ui.dashboard import Figures, Timeline
from rlhf.report.plots import DASH, columns, forest, interval, number, with_range
from rlhf.report.records import Estimate

if TYPE_CHECKING:
    from rlhf.evaluate import intervals
    from rlhf.evaluate.agreement import Agreement
    from rlhf.evaluate.leaderboard import Leaderboard
    from rlhf.evaluate.raters import RaterQuality

MOST_RATERS = 50
_MOST_PAIRS = 20
_LONGEST_NAME = 30
_TOO_OFTEN_FAST = 0.1
_FAR_FROM_HALF = 0.15

SORTS: "dict[str, tuple[str, Callable[[RaterQuality], float]]]" = {
    "votes": ("Most votes", lambda q: -q.votes),
    "majority": ("Least with the majority", lambda q: _value(q.with_majority, 2)),
    "left": ("Most to one side", lambda q: -abs(_value(q.left, 0.5) - 0.5)),
    "fast": ("Fastest", lambda q: 1e9 if q.median_seconds is None else q.median_seconds),
    "accuracy": ("Least accurate", lambda q: 2 if q.accuracy is None else q.accuracy),
}
"""Ways to order the raters: what a reader calls it, and what comes first."""


def figures_html(figures: Figures, sort: str, sort_links: str) -> str:
    """Every figure of one campaign; ``sort_links`` lead to the other orders of the raters."""
    if not figures.answers:
        return '<p class="rl-wait">No votes yet.</p>'
    timeline = _timeline(figures.timeline)
    when = (
        f'<p class="rl-hint">As of {figures.at:%H:%M:%S} UTC, {figures.answers:,} answers. In '
        "brackets and drawn as bars: 95 % intervals.</p>"
    )
    if not figures.raters:
        hint = "Agreement and raters' quality are worked out where an answer is a choice."
        return f'<div class="rl-figures">{timeline}</div><p class="rl-hint">{hint}</p>{when}'
    left_out = (
        f'<p class="rl-notice">{figures.active:,} votes on tasks that active selection chose are '
        "left out of agreement and leaderboard: they are not like the rest.</p>"
        if figures.active
        else ""
    )
    board = "" if figures.kind == "thumbs" else _board(figures.board)
    return (
        f'{left_out}<div class="rl-figures">{timeline}{_agreement(figures.agreement)}</div>'
        f"{board}{_raters(figures, sort, sort_links)}{when}"
    )


def percent(share: float, digits: int = 1) -> str:
    """A share as a reader expects it."""
    return f"{100 * share:.{digits}f} %"


def shares_range(estimate: "intervals.Estimate") -> str:
    """A share with its interval."""
    low, high = (f"{100 * v:.0f}" for v in (estimate.low, estimate.high))
    return f"{percent(estimate.value)} <small>({low} to {high})</small>"


def _value(estimate: "intervals.Estimate | None", missing: float) -> float:
    return missing if estimate is None else estimate.value


def _plain(estimate: "intervals.Estimate") -> Estimate:
    return Estimate(estimate.value, estimate.low, estimate.high)


def _card(title: str, body: str, aside: str = "") -> str:
    head = f'<div class="rl-head"><h2>{title}</h2>{aside}</div>'
    return f'<section class="rl-card">{head}{body}</section>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Rows whose first cell is their head; scrolls by itself where it is too wide."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    top = f"<thead><tr>{top}</tr></thead>" if top else ""
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="rl-scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"{top}<tbody>{body}</tbody></table></div>"
    )


def _timeline(timeline: Timeline) -> str:
    if not timeline.counts:
        return ""
    hourly = timeline.step < timedelta(days=1)
    shape = "%d %b %H:00" if hourly else "%d %b"
    names = [f"{start:{shape}}" for start in timeline.starts]
    title = "Votes per hour" if hourly else "Votes per day"
    counts = timeline.counts
    told = f"{max(counts):,} at most, {counts[-1]:,} in the last one. Times are UTC."
    return _card(title, f'{columns(title, counts, names)}<p class="rl-hint">{told}</p>')


def _agreement(agreement: "Agreement") -> str:
    fleiss = "Fleiss' kappa"
    if agreement.fleiss_votes:
        fleiss += f", {agreement.fleiss_votes} votes each"
    figures = (
        ("Equal pairs of votes", agreement.percent, shares_range),
        (fleiss, agreement.fleiss, _with_small_range),
        ("Krippendorff's alpha, nominal", agreement.alpha_nominal, _with_small_range),
        ("Krippendorff's alpha, ordinal", agreement.alpha_ordinal, _with_small_range),
    )
    rows = [
        (name, DASH, "")
        if estimate is None
        else (
            f"{name} <small>{estimate.n:,} tasks</small>",
            told(estimate),
            interval(_plain(estimate), 0.0),
        )
        for name, estimate, told in figures
    ]
    table = _table((), rows, "Agreement")
    pairs = [
        (f"{escape(p.rater)} and {escape(p.other)}", _with_small_range(p.kappa), f"{p.kappa.n:,}")
        for p in agreement.pairs[:_MOST_PAIRS]
    ]
    more = (
        f"<details><summary>Cohen's kappa of pairs of raters</summary>"
        f"{_table(('', 'Kappa', 'Tasks'), pairs, 'Pairs of raters')}</details>"
        if pairs
        else ""
    )
    hint = "Kappa and alpha are agreement beyond chance: 1 is perfect, 0 is what chance gives."
    return _card("Agreement", f'{table}{more}<p class="rl-hint">{hint}</p>')


def _with_small_range(estimate: "intervals.Estimate") -> str:
    value, _, ends = with_range(_plain(estimate)).partition(" ")
    return f"{value} <small>{ends}</small>" if ends else value


def _board(board: "Leaderboard") -> str:
    badge = '<span class="rl-badge">Preliminary</span>' if board.preliminary else ""
    notes = "".join(f'<p class="rl-notice">{escape(note)}</p>' for note in board.notes)
    if not board.standings:
        return _card("Leaderboard", notes)
    names = _short([standing.policy for standing in board.standings])
    strengths = [_plain(standing.strength) for standing in board.standings]
    drawn = forest(
        "Strength in logits, relative to the mean", list(zip(names, strengths, strict=True))
    )
    rows = [
        (
            f'<span class="rl-rank">{s.rank}</span> {escape(s.policy)}',
            _with_small_range(s.strength),
            DASH if s.at_equal_length is None else _with_small_range(s.at_equal_length),
            percent(s.win_share),
            shares_range(s.both_bad),
            f"{s.votes:,}",
        )
        for s in board.standings
    ]
    heads = ("Policy", "Strength", "At equal length", "Wins", "Both bad", "Votes")
    table = _table(heads, rows, "Leaderboard")
    hint = (
        "Policies of one rank are not surely different (Holm's test over all pairs at 5 %). "
        "A tie and both bad are half a win. Raters are taken as the independent units."
    )
    return _card(
        "Leaderboard",
        f'{notes}<div class="rl-figures">{drawn}{_heat_map(board)}</div>{table}{_effects(board)}'
        f'<p class="rl-hint">{hint}</p>',
        badge,
    )


def _effects(board: "Leaderboard") -> str:
    told: list[str] = []
    if board.left_wins is not None:
        told.append(
            f"Of two equal responses the left one wins {shares_range(board.left_wins)} of the time."
        )
    if board.length_effect is not None:
        told.append(
            "One standard deviation more length is worth "
            f"{with_range(_plain(board.length_effect))} logits."
        )
    return f"<p>{' '.join(told)}</p>" if told else ""


def _heat_map(board: "Leaderboard") -> str:
    names = _short([standing.policy for standing in board.standings])
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows: list[str] = []
    for name, shares, counts in zip(names, board.shares, board.counts, strict=True):
        cells = [
            "<td></td>"
            if share is None
            else f'<td style="--share:{share:.3f}" class="rl-{"win" if share >= 0.5 else "loss"}">'
            f"{100 * share:.0f} %<small>{count:,}</small></td>"
            for share, count in zip(shares, counts, strict=True)
        ]
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        "<figure><figcaption>Wins of the row against the column, and votes</figcaption>"
        '<div class="rl-scroll" tabindex="0" role="region" aria-label="Wins by pair">'
        f'<table class="rl-heat"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def _short(names: Sequence[str]) -> list[str]:
    """The names without their folders, where that leaves them distinct; long ones are cut."""
    last = [name.rpartition("/")[2] for name in names]
    kept = last if len(set(last)) == len(names) else names
    return [n if len(n) <= _LONGEST_NAME else "…" + n[1 - _LONGEST_NAME :] for n in kept]


def _raters(figures: Figures, sort: str, sort_links: str) -> str:
    raters, sided = figures.raters, figures.kind != "thumbs"
    first = sorted(raters, key=SORTS[sort][1])[:MOST_RATERS]
    heads = (
        "Rater", "Votes", "Skips", "With majority", "Left", "Seconds", "Too fast", "Gold",
        "Accuracy",
    )  # fmt: skip
    table = _table(heads, [_rater(quality, sided, len(raters)) for quality in first], "Raters")
    shown = "" if len(raters) <= MOST_RATERS else f"The first {MOST_RATERS} of {len(raters):,}. "
    hint = (
        f"{shown}With majority: votes that are what most of the others said. Left: share of the "
        "left side among votes for a side. Accuracy: by Dawid and Skene's model, which learns whom "
        "to trust. ▲ marks what to look into."
    )
    return _card("Raters", f'{sort_links}{table}<p class="rl-hint">{hint}</p>')


def _leans(left: "intervals.Estimate", num_raters: int) -> bool:
    """Whether a rater is far from even, and not just the unluckiest of so many."""
    from rlhf.evaluate.intervals import LEVEL, wilson

    quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / num_raters / 2)
    low, high = wilson(left.value, left.n, quantile)
    return abs(left.value - 0.5) > _FAR_FROM_HALF and not low <= 0.5 <= high


def _rater(quality: "RaterQuality", sided: bool, num_raters: int) -> Sequence[str]:
    left, fast = quality.left if sided else None, quality.too_fast
    leaning = left is not None and _leans(left, num_raters)
    hasty = fast is not None and fast > _TOO_OFTEN_FAST
    return (
        escape(quality.rater),
        f"{quality.votes:,}",
        percent(quality.skip_share, 0),
        DASH if quality.with_majority is None else shares_range(quality.with_majority),
        DASH if left is None else _marked(shares_range(left), leaning, "votes mostly for one side"),
        DASH if quality.median_seconds is None else number(quality.median_seconds),
        DASH if fast is None else _marked(percent(fast, 0), hasty, "often too fast to have read"),
        DASH if quality.gold is None else shares_range(quality.gold),
        DASH if quality.accuracy is None else percent(quality.accuracy, 0),
    )


def _marked(text: str, doubtful: bool, why: str) -> str:
    if not doubtful:
        return text
    mark = f'<span role="img" aria-label="{why}">▲</span>'
    return f'<span class="rl-doubt" title="{why}">{mark} {text}</span>'
