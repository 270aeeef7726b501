"""Judgement that a person reads: one self-contained HTML page per run and per comparison."""

from rlhf.report.comparison import comparison_page
from rlhf.report.records import (
    Answer,
    Case,
    Estimate,
    PolicySummary,
    Report,
    Verdict,
    WinRate,
    case_from_json,
    case_to_json,
)
from rlhf.report.run import (
    RunReport,
    Sample,
    read_run,
    run_page,
    write_live_report,
    write_run_report,
)

__all__ = [
    "Answer",
    "Case",
    "Estimate",
    "PolicySummary",
    "Report",
    "RunReport",
    "Sample",
    "Verdict",
    "WinRate",
    "case_from_json",
    "case_to_json",
    "comparison_page",
    "read_run",
    "run_page",
    "write_live_report",
    "write_run_report",
]
