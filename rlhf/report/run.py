"""The page about one run: what was asked, how it went, where it came from, what it writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

from rlhf import processes
from rlhf.report.page import charts, document, facts, heading, section
from rlhf.report.plots import Series, lines, number
from rlhf.runs import FinishedRun, Run, is_run, open_run

Facts = Mapping[str, Any]
_TIMES = {"step", "epoch", "seconds"}
_KL, _SCORES = "objective/kl", "objective/scores"
_RELOAD_AFTER = 15
"""Seconds."""
_SHOWN_ELSEWHERE = {"samples", "parents", "versions", "stage", "status"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt and what was responded to it, by label (before and after, say)."""

    prompt: str
    responses: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that the page says."""

    name: str
    stage: str
    config: Facts
    facts: Facts
    metrics: Sequence[Facts]
    lineage: Sequence[tuple[int, str, str]]
    """Ancestors, parents before theirs: depth, role, and path with id."""
    samples: Sequence[Sample]


def write_run_report(path: str | Path) -> Path | None:
    """Write ``report.html`` into the finished run at ``path``; the last move of every stage.

    Of several processes that train one model only the first writes; the others get None.

    Raises:
        RunError: there is no finished run at ``path``.
    """
    if not processes.is_first():
        return None
    run = open_run(path)
    draft = run.report.with_suffix(".new")
    draft.write_text(run_page(read_run(run)), encoding="utf-8")
    return draft.replace(run.report)


def write_live_report(run: Run, progress: str) -> None:
    """The same page about a run that goes on, which loads itself again and again."""
    draft = run.report.with_suffix(".new")
    draft.write_text(run_page(_read(run, run.facts), progress), encoding="utf-8")
    draft.replace(run.report)


def read_run(run: FinishedRun) -> RunReport:
    """What is on disk about ``run``."""
    return _read(run, run.facts)


def _read(run: FinishedRun | Run, facts_: Facts) -> RunReport:
    return RunReport(
        name=run.path.resolve().name,
        stage=facts_["stage"],
        config=run.read_config(),
        facts=facts_,
        metrics=run.read_metrics(),
        lineage=list(_ancestors(facts_)),
        samples=[Sample(**sample) for sample in facts_.get("samples", [])],
    )


def run_page(report: RunReport, progress: str = "") -> str:
    """``report`` as one self-contained HTML page; ``progress`` says how far a live run is."""
    about = {k: v for k, v in report.facts.items() if k not in _SHOWN_ELSEWHERE}
    return document(
        f"{report.name}, {report.stage}",
        [
            heading(report.name, ", ".join(filter(None, [_lead(report), progress]))),
            section("Score by KL", _score_by_kl(report.metrics)),
            section("Metrics", charts(_curves(report.metrics)), _last(report.metrics)),
            section("Samples", "".join(_sample(sample) for sample in report.samples)),
            section("Lineage", _lineage(report)),
            section("Configuration", f"<pre>{escape(_yaml(report.config))}</pre>"),
            section("Provenance", facts(about), facts(report.facts.get("versions", {}))),
        ],
        reload_after=_RELOAD_AFTER if progress else None,
    )


def _lead(report: RunReport) -> str:
    parts = [f"{report.stage} run"]
    if "device" in report.facts:
        parts.append(f"on {report.facts['device']}")
    if "wall_seconds" in report.facts:
        parts.append(f"took {_duration(report.facts['wall_seconds'])}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _score_by_kl(metrics: Sequence[Facts]) -> str:
    """Each score in the order of the rollouts (Gao et al. 2022, figure 1).

    A score that a run is judged by and did not learn from falls where the others are exploited.
    """
    lines_ = [line for line in metrics if line.get(_KL) is not None]
    names = dict.fromkeys(k for line in lines_ for k in line if k.startswith(f"{_SCORES}/"))
    series = [
        Series(
            name.removeprefix(f"{_SCORES}/"),
            [line[name] for line in lines_ if name in line],
            [line[_KL] for line in lines_ if name in line],
        )
        for name in names
    ]
    if not any(len(s.y) > 1 for s in series):
        return ""
    title = "score by nats of KL from the reference"
    return charts(lines(f"{title}: {s.name}", [s]) for s in series)


def _curves(metrics: Sequence[Facts]) -> Iterable[str]:
    """A chart per metric; training and evaluation of the same thing share one."""
    groups: dict[str, dict[str, None]] = {}
    for line in metrics:
        for key, value in line.items():
            if key not in _TIMES and isinstance(value, (int, float)):
                groups.setdefault(key.removeprefix("eval_"), {})[key] = None
    for name, keys in groups.items():
        found = [_series(metrics, key) for key in keys]
        if any(len(s.y) > 1 for s in found):
            yield lines(name, found)


def _series(metrics: Sequence[Facts], key: str) -> Series:
    points = [(line["step"], line[key]) for line in metrics if key in line]
    name = "evaluation" if key.startswith("eval_") else "training"
    return Series(name, [y for _, y in points], [x for x, _ in points])


def _last(metrics: Sequence[Facts]) -> str:
    """What was logged last of each metric."""
    last = {k: v for line in metrics for k, v in line.items() if k not in _TIMES}
    shown = {k: number(v) if isinstance(v, float) else v for k, v in last.items()}
    if not shown:
        return ""
    return f"<details><summary>Last values</summary>{facts(shown)}</details>"


def _sample(sample: Sample) -> str:
    answers = "".join(
        f'<div class="answer"><div class="who"><b>{escape(label)}</b></div>'
        f'<p dir="auto">{escape(text)}</p></div>'
        for label, text in sample.responses.items()
    )
    return (
        f'<article><div class="turn" dir="auto">{escape(sample.prompt)}</div>'
        f'<div class="answers">{answers}</div></article>'
    )


def _lineage(report: RunReport) -> str:
    if not report.lineage:
        return ""
    lines_ = [f"{report.stage} {report.name}"]
    lines_ += [f"{'   ' * depth}└─ {role}: {where}" for depth, role, where in report.lineage]
    return f"<pre>{escape(chr(10).join(lines_))}</pre>"


def _ancestors(facts_: Facts, depth: int = 0) -> Iterable[tuple[int, str, str]]:
    for role, parent in facts_.get("parents", {}).items():
        yield depth, role, f"{parent['path']} ({parent['id']})"
        if is_run(parent["path"]):
            found = open_run(parent["path"])
            if found.facts["id"] == parent["id"]:
                yield from _ancestors(found.facts, depth + 1)


def _yaml(config: Facts) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
