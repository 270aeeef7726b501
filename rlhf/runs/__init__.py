"""Run folders: what a stage leaves on disk, written atomically and never half-finished."""

from rlhf.runs.figures import FIGURES, Summary, ordered, summary
from rlhf.runs.names import name_by_date
from rlhf.runs.run import (
    POLICY_STAGES,
    FinishedRun,
    Run,
    can_resume,
    is_run,
    list_runs,
    list_unfinished,
    new_run,
    newest_checkpoint,
    open_run,
)
from rlhf.runs.run_paths import RunFolder

__all__ = [
    "FIGURES",
    "POLICY_STAGES",
    "FinishedRun",
    "Run",
    "RunFolder",
    "Summary",
    "can_resume",
    "is_run",
    "list_runs",
    "list_unfinished",
    "name_by_date",
    "new_run",
    "newest_checkpoint",
    "open_run",
    "ordered",
    "summary",
]
