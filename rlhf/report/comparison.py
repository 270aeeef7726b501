"""The page about a comparison: how often each policy wins, how far it moved, and every response."""

from collections.abc import Sequence
from html import escape

from rlhf.report.page import (
    charts,
    conversation,
    document,
    estimate,
    facts,
    heading,
    percent,
    section,
    table,
)
from rlhf.report.plots import NUM_COLOURS, Series, histograms, interval, number
from rlhf.report.records import Answer, Case, PolicySummary, Report, WinRate


def comparison_page(report: Report) -> str:
    """``report`` as one self-contained HTML page."""
    num_prompts = len({case.prompt.id for case in report.cases})
    lead = (
        f"{len(report.policies)} policies, {num_prompts} prompts, judged by {report.judge}; "
        f"the reference is {report.reference}"
    )
    return document(
        report.title,
        [
            heading(report.title, lead),
            *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
            section("Policies", _policies(report)),
            section("Who wins", _win_rates(report.win_rates)),
            section("Distributions", charts(_histograms(report))),
            section("Responses", _tools(report), _cases(report)),
            section("Settings", facts(report.settings)),
            section("Provenance", facts(report.provenance)),
        ],
    )


def _policies(report: Report) -> str:
    over = {rate.policy: rate for rate in report.win_rates if rate.over == report.reference}
    has_scores = any(p.score is not None for p in report.policies)
    head = ["policy", f"wins over {report.reference}"]
    head += ["score", f"score above {report.reference}"] if has_scores else []
    head += ["KL, nats per response", "tokens per response", "cut off"]
    return (
        table(head, [_policy_row(p, over.get(p.name), has_scores) for p in report.policies])
        + '<p class="small">In brackets: 95 % intervals. A tie is half a win.</p>'
    )


def _policy_row(policy: PolicySummary, win: WinRate | None, has_scores: bool) -> list[str]:
    stage = "" if policy.stage == policy.name else escape(policy.stage)
    name = f'{escape(policy.name)} <span class="range-text">{stage}</span>'
    cells = [name, estimate(win.rate if win else None, share=True)]
    if has_scores:
        cells += [estimate(policy.score), estimate(policy.gain)]
    return [*cells, estimate(policy.kl), estimate(policy.length), percent(policy.cut_off)]


def _win_rates(rates: Sequence[WinRate]) -> str:
    if not rates:
        return '<p class="small">Not judged yet.</p>'
    head = ["policy", "over", "win rate", "0 to 100 %", "wins", "ties", "losses"]
    people = any(rate.both_bad for rate in rates)
    rows = [
        [
            escape(rate.policy),
            escape(rate.over),
            estimate(rate.rate, share=True),
            interval(rate.rate),
            *(f"{n:,}" for n in (rate.wins, rate.ties, rate.losses)),
            *([f"{rate.both_bad:,}"] if people else []),
        ]
        for rate in rates
    ]
    return table([*head, *(["of the ties, both bad"] if people else [])], rows)


def _histograms(report: Report) -> list[str]:
    def of(title: str, read: "dict[str, list[float | None]]") -> str:
        return histograms(title, [Series(name, values) for name, values in read.items()])

    names = [policy.name for policy in report.policies]
    columns = {name: [case.answers[i] for case in report.cases] for i, name in enumerate(names)}
    moved = {n: [a.kl if n != report.reference else None for a in c] for n, c in columns.items()}
    return [
        of("Score", {n: [a.score for a in c] for n, c in columns.items()}),
        of("Length, tokens", {n: [float(a.num_tokens) for a in c] for n, c in columns.items()}),
        of(f"KL from {report.reference}, nats per response", moved),
    ]


def _tools(report: Report) -> str:
    if not report.cases:
        return ""
    best = "".join(
        f'<option value="{i}">{escape(p.name)} is best</option>'
        for i, p in enumerate(report.policies)
    )
    return (
        '<div class="bar-tools" role="toolbar" aria-label="Choose responses" hidden>'
        f'<select aria-label="Show"><option value="">All</option>{best}'
        '<option value="tie">No single best</option><option value="cut">Some cut off</option>'
        '</select><select aria-label="Order"><option value="given">As given</option>'
        '<option value="gap">Largest difference first</option></select>'
        '<input type="search" placeholder="Search" aria-label="Search">'
        '<button type="button">Back</button><output aria-live="polite"></output>'
        '<button type="button">Next</button></div>'
    )


def _cases(report: Report) -> str:
    names = [policy.name for policy in report.policies]
    return f"<div>{''.join(_case(i, c, names) for i, c in enumerate(report.cases))}</div>"


def _case(place: int, case: Case, names: Sequence[str]) -> str:
    points = _points(case)
    top = max(points)
    best = points.index(top) if case.verdicts and points.count(top) == 1 else None
    votes = sum(v.num_votes for v in case.verdicts)
    judged = f"{votes} judgement{'s' if votes != 1 else ''}" if case.verdicts else "not judged"
    cut = "" if all(a.finished for a in case.answers) else " data-cut"
    answers = "".join(
        _answer(i, answer, names[i], best == i) for i, answer in enumerate(case.answers)
    )
    return (
        f'<article data-place="{place}" data-best="{"" if best is None else best}"'
        f' data-gap="{_gap(case, points):.6g}"{cut}>'
        f"<header><span>{place + 1}</span><span>{judged}</span></header>"
        f'{conversation(case.prompt)}<div class="answers">{answers}</div></article>'
    )


def _answer(index: int, answer: Answer, name: str, best: bool) -> str:
    tags = '<span class="tag">best</span>' if best else ""
    tags += "" if answer.finished else '<span class="tag cut">cut off</span>'
    figures = [] if answer.score is None else [f"score {number(answer.score)}"]
    figures += [f"{answer.num_tokens} token{'s' if answer.num_tokens != 1 else ''}"]
    figures += [] if answer.kl is None else [f"KL {number(answer.kl)}"]
    text = escape(answer.text) if answer.text.strip() else '<span class="empty">empty</span>'
    return (
        f'<div class="answer{" best" if best else ""}">'
        f'<div class="who c{index % NUM_COLOURS}"><i></i><b>{escape(name)}</b>{tags}'
        f'<span class="meta">{", ".join(figures)}</span></div><p dir="auto">{text}</p></div>'
    )


def _points(case: Case) -> list[float]:
    """Shares of wins that each answer has, over all its rivals."""
    points = [0.0] * len(case.answers)
    for verdict in case.verdicts:
        points[verdict.a] += verdict.share
        points[verdict.b] += 1 - verdict.share
    return points


def _gap(case: Case, points: Sequence[float]) -> float:
    """How far apart the answers are: in scores where there are any, else in wins."""
    scores = [a.score for a in case.answers if a.score is not None]
    return max(scores) - min(scores) if scores else max(points) - min(points)
