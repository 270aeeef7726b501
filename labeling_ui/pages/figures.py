"""The figures of a campaign as HTML: votes over time, agreement, leaderboard, raters."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING

from labeling_ui.locales import Words
from labeling_ui.results.dashboard import Figures, Timeline
from rlhf.report.plots import DASH, columns, forest, interval, number, with_range
from rlhf.report.records import Estimate

if TYPE_CHECKING:
    from rlhf.evaluate import intervals
    from rlhf.evaluate.leaderboard import Leaderboard
    from rlhf.evaluate.raters import RaterQuality
    from rlhf.evaluate.scores import RaterScores

MOST_RATERS = 50
_MOST_PAIRS = 20
_LONGEST_NAME = 30
_TOO_OFTEN_FAST = 0.1
_FAR_FROM_HALF = 0.15
_HALF_A_POINT = 0.5

SORTS: "dict[str, Callable[[RaterQuality], float]]" = {
    "votes": lambda q: -q.votes,
    "majority": lambda q: _value(q.with_majority, 2),
    "left": lambda q: -abs(_value(q.left, 0.5) - 0.5),
    "fast": lambda q: 1e9 if q.median_seconds is None else q.median_seconds,
    "accuracy": lambda q: 2 if q.accuracy is None else q.accuracy,
}
"""Ways to order the raters; the text ``sort_NAME`` says what comes first."""


def figures_html(figures: Figures, sort: str, sort_links: str, say: Words) -> str:
    """Every figure of one campaign; ``sort_links`` lead to the other orders of the raters."""
    if not figures.answers:
        return f'<p class="rl-wait">{say("no_votes")}</p>'
    timeline = _timeline(figures.timeline, say)
    at = say("as_of", time=f"{figures.at:%H:%M:%S}", count=say.count(figures.answers))
    when = f'<p class="rl-hint">{at}</p>'
    if figures.kind == "rewrite":
        hint = say("choices_only")
        return f'<div class="rl-figures">{timeline}</div><p class="rl-hint">{hint}</p>{when}'
    left_out = _notice(say("active_left_out", count=say.count(figures.active)))
    told = left_out if figures.active else ""
    scores = _scores(figures, say) if figures.measures else ""
    if figures.kind == "rating":
        marks = _marks(figures.marks, say)
        return f'{told}<div class="rl-figures">{timeline}</div>{scores}{marks}{when}'
    board = "" if figures.kind == "thumbs" else _board(figures.board, say)
    return (
        f'{told}<div class="rl-figures">{timeline}{_agreement(figures, say)}</div>'
        f"{board}{scores}{_raters(figures, sort, sort_links, say)}{when}"
    )


def percent(share: float, digits: int = 1) -> str:
    """A share as a reader expects it."""
    return f"{100 * share:.{digits}f} %"


def shares_range(estimate: "intervals.Estimate") -> str:
    """A share with its interval."""
    low, high = (f"{100 * v:.0f}" for v in (estimate.low, estimate.high))
    return f"{percent(estimate.value)} <small>[{low}, {high}]</small>"


def _value(estimate: "intervals.Estimate | None", missing: float) -> float:
    return missing if estimate is None else estimate.value


def _plain(estimate: "intervals.Estimate") -> Estimate:
    return Estimate(estimate.value, estimate.low, estimate.high)


def _notice(text: str) -> str:
    return f'<p class="rl-notice">{text}</p>'


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


def _timeline(timeline: Timeline, say: Words) -> str:
    if not timeline.counts:
        return ""
    hourly = timeline.step < timedelta(days=1)
    shape = "%Y-%m-%d %H:00" if hourly else "%Y-%m-%d"
    names = [f"{start:{shape}}" for start in timeline.starts]
    title = say("votes_per_hour") if hourly else say("votes_per_day")
    counts = timeline.counts
    told = say("timeline_told", most=say.count(max(counts)), last=say.count(counts[-1]))
    return _card(title, f'{columns(title, counts, names)}<p class="rl-hint">{told}</p>')


def _agreement(figures: Figures, say: Words) -> str:
    agreement, ranking = figures.agreement, figures.kind == "ranking"
    counted = "pair_count" if ranking else "task_count"
    each = agreement.fleiss_votes
    shown = (
        (say("equal_pairs"), agreement.percent, shares_range),
        (say("fleiss_of", votes=each) if each else say("fleiss"), agreement.fleiss, _small_range),
        (say("alpha_nominal"), agreement.alpha_nominal, _small_range),
        (say("alpha_ordinal"), agreement.alpha_ordinal, _small_range),
    )
    rows = [
        (name, DASH, "")
        if estimate is None
        else (
            f"{name} <small>{say(counted, count=say.count(estimate.n))}</small>",
            told(estimate),
            interval(_plain(estimate), 0.0),
        )
        for name, estimate, told in shown
    ]
    table = _table((), rows, say("agreement"))
    pairs = [
        (f"{escape(p.rater)} · {escape(p.other)}", _small_range(p.kappa), say.count(p.kappa.n))
        for p in agreement.pairs[:_MOST_PAIRS]
    ]
    heads = ("", say("kappa"), say("response_pairs") if ranking else say("tasks"))
    more = (
        f"<details><summary>{say('cohen')}</summary>"
        f"{_table(heads, pairs, say('rater_pairs'))}</details>"
        if pairs
        else ""
    )
    hint = f'<p class="rl-hint">{say("agreement_hint")}</p>'
    return _card(say("agreement"), f"{table}{more}{hint}")


def _small_range(estimate: "intervals.Estimate") -> str:
    value, _, ends = with_range(_plain(estimate)).partition(" ")
    return f"{value} <small>{ends}</small>" if ends else value


def _board(board: "Leaderboard", say: Words) -> str:
    title = say("leaderboard")
    badge = f'<span class="rl-badge">{say("preliminary")}</span>' if board.preliminary else ""
    notes = "".join(
        _notice(escape(say(f"note_{note.kind}", **note.values))) for note in board.notes
    )
    if not board.standings:
        return _card(title, notes)
    names = _short([standing.policy for standing in board.standings])
    strengths = [_plain(standing.strength) for standing in board.standings]
    drawn = forest(say("strength_axis"), list(zip(names, strengths, strict=True)))
    rows = [
        (
            f'<span class="rl-rank">{s.rank}</span> {escape(s.policy)}',
            _small_range(s.strength),
            DASH if s.at_equal_length is None else _small_range(s.at_equal_length),
            percent(s.win_share),
            shares_range(s.both_bad),
            say.count(s.votes),
        )
        for s in board.standings
    ]
    heads = ("policy_head", "strength", "equal_length", "wins", "both_bad", "votes")
    table = _table([say(head) for head in heads], rows, title)
    return _card(
        title,
        f'{notes}<div class="rl-figures">{drawn}{_heat_map(board, say)}</div>{table}'
        f'{_effects(board, say)}<p class="rl-hint">{say("board_hint")}</p>',
        badge,
    )


def _effects(board: "Leaderboard", say: Words) -> str:
    told: list[str] = []
    if board.left_wins is not None:
        told.append(say("left_wins", share=_number(shares_range(board.left_wins))))
    if board.length_effect is not None:
        told.append(say("length_worth", logits=_number(with_range(_plain(board.length_effect)))))
    return f"<p>{' '.join(told)}</p>" if told else ""


def _number(text: str) -> str:
    """A number and its interval, which read from left to right in every language."""
    return f'<bdi dir="ltr">{text}</bdi>'


def _heat_map(board: "Leaderboard", say: Words) -> str:
    names = _short([standing.policy for standing in board.standings])
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows: list[str] = []
    for name, shares, counts in zip(names, board.shares, board.counts, strict=True):
        cells = [
            "<td></td>"
            if share is None
            else f'<td style="--share:{share:.3f}" class="rl-{"win" if share >= 0.5 else "loss"}">'
            f"{100 * share:.0f} %<small>{say.count(count)}</small></td>"
            for share, count in zip(shares, counts, strict=True)
        ]
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f"<figure><figcaption>{say('heat_map')}</figcaption>"
        f'<div class="rl-scroll" tabindex="0" role="region" aria-label="{say("wins_by_pair")}">'
        f'<table class="rl-heat"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def _short(names: Sequence[str]) -> list[str]:
    """The names without their folders, where that leaves them distinct; long ones are cut."""
    last = [name.rpartition("/")[2] for name in names]
    kept = last if len(set(last)) == len(names) else names
    return [n if len(n) <= _LONGEST_NAME else "…" + n[1 - _LONGEST_NAME :] for n in kept]


def _scores(figures: Figures, say: Words) -> str:
    """Every policy's mean by each measure: drawn, and as a table."""
    rated = figures.kind == "rating"
    names = [escape(one.name) if one.name else say("thumbs_up") for one in figures.measures]
    by_policy: dict[str, dict[str, str]] = {}
    drawn = ""
    for name, measure in zip(names, figures.measures, strict=True):
        policies = [one.policy or say("unnamed_policy") for one in measure.standings]
        gains = [_plain(one.gain) for one in measure.standings if one.gain is not None]
        if gains:
            drawn += forest(name, list(zip(_short(policies), gains, strict=True)))
        for policy, one in zip(policies, measure.standings, strict=True):
            by_policy.setdefault(policy, {})[name] = _small_range(one.mean)
    rows = [
        (escape(policy), *(cells.get(name, DASH) for name in names))
        for policy, cells in by_policy.items()
    ]
    if rated:
        alphas = [DASH if m.alpha is None else _small_range(m.alpha) for m in figures.measures]
        rows.append((say("alpha"), *alphas))
    title, hint = say("scores"), say("score_hint_rating" if rated else "score_hint_share")
    if drawn:
        drawn, hint = f'<div class="rl-figures">{drawn}</div>', f"{say('gain_hint')} {hint}"
    table = _table((say("policy_head"), *names), rows, title)
    return _card(title, f'{drawn}{table}<p class="rl-hint">{hint}</p>')


def _marks(marks: "Sequence[RaterScores]", say: Words) -> str:
    """How each rater uses the scale of a rating."""
    rows = [
        (
            escape(one.rater),
            say.count(one.items),
            number(one.mean),
            DASH
            if one.kinder is None
            else _marked(_small_range(one.kinder), _differs(one.kinder), say("differs")),
            DASH if one.apart is None else number(one.apart),
            DASH if one.median_seconds is None else number(one.median_seconds),
        )
        for one in marks[:MOST_RATERS]
    ]
    heads = ("rater_head", "answers", "mean_given", "kinder", "apart", "seconds")
    table = _table([say(head) for head in heads], rows, say("raters"))
    hint = _first_of(len(marks), say) + say("marks_hint")
    return _card(say("raters"), f'{table}<p class="rl-hint">{hint}</p>')


def _differs(kinder: "intervals.Estimate") -> bool:
    return kinder.low > _HALF_A_POINT or kinder.high < -_HALF_A_POINT


def _first_of(count: int, say: Words) -> str:
    if count <= MOST_RATERS:
        return ""
    return say("first_raters", shown=MOST_RATERS, total=say.count(count)) + " "


def _raters(figures: Figures, sort: str, sort_links: str, say: Words) -> str:
    raters, sided = figures.raters, figures.kind != "thumbs"
    first = sorted(raters, key=SORTS[sort])[:MOST_RATERS]
    heads = (
        "rater_head", "votes", "skip_share", "with_majority", "left_share", "seconds", "hasty",
        "gold", "accuracy",
    )  # fmt: skip
    rows = [_rater(quality, sided, len(raters), say) for quality in first]
    table = _table([say(head) for head in heads], rows, say("raters"))
    hint = _first_of(len(raters), say) + say("raters_hint")
    return _card(say("raters"), f'{sort_links}{table}<p class="rl-hint">{hint}</p>')


def _leans(left: "intervals.Estimate", num_raters: int) -> bool:
    """Whether a rater is far from even, and not just the unluckiest of so many."""
    from rlhf.evaluate.intervals import LEVEL, wilson

    quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / num_raters / 2)
    low, high = wilson(left.value, left.n, quantile)
    return abs(left.value - 0.5) > _FAR_FROM_HALF and not low <= 0.5 <= high


def _rater(quality: "RaterQuality", sided: bool, num_raters: int, say: Words) -> Sequence[str]:
    left, fast = quality.left if sided else None, quality.too_fast
    leaning = left is not None and _leans(left, num_raters)
    hasty = fast is not None and fast > _TOO_OFTEN_FAST
    return (
        escape(quality.rater),
        say.count(quality.votes),
        percent(quality.skip_share, 0),
        DASH if quality.with_majority is None else shares_range(quality.with_majority),
        DASH if left is None else _marked(shares_range(left), leaning, say("leans")),
        DASH if quality.median_seconds is None else number(quality.median_seconds),
        DASH if fast is None else _marked(percent(fast, 0), hasty, say("often_fast")),
        DASH if quality.gold is None else shares_range(quality.gold),
        DASH if quality.accuracy is None else percent(quality.accuracy, 0),
    )


def _marked(text: str, doubtful: bool, why: str) -> str:
    if not doubtful:
        return text
    mark = f'<span role="img" aria-label="{why}">▲</span>'
    return f'<span class="rl-doubt" title="{why}">{mark} {text}</span>'
