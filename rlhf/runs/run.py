"""Run folders: what a stage leaves on disk, written atomically and never half-finished.

A stage works in ``<out>.partial/``, which becomes ``<out>/`` in one rename when it ends well. Names
of files in it are known here and in :mod:`rlhf.runs.run_paths`, and nowhere else.
"""

import json
import math
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, cast

import yaml

from rlhf import processes, provenance
from rlhf.config import CONFIG_OF, to_dict
from rlhf.errors import RunError
from rlhf.runs import disk
from rlhf.runs.run_paths import PARTIAL, RunFolder

POLICY_STAGES = ("sft", "dpo", "kto", "ppo", "rloo", "grpo", "online-dpo")
MAY_CHANGE_ON_RESUME = {"report_to", "logging_steps"}

_LOCK = ".lock"
_FACTS = "run.json"
_CHECKPOINTS = "checkpoints"
_TRAINER_STATE = "trainer_state.json"

Facts = dict[str, Any]


class _Options(Protocol):
    """A config of any stage: a dataclass that says where the run goes."""

    @property
    def out(self) -> str | Path: ...


@dataclass(frozen=True)
class FinishedRun(RunFolder):
    """A run that ended well; ``facts`` is its ``run.json``."""

    stage: str
    config: Facts
    facts: Facts


@dataclass(frozen=True)
class Run(RunFolder):
    """A run that is being written."""

    resume_from: Path | None
    """The newest complete checkpoint, when resuming."""
    writes: bool
    """Whether this process writes; of several training one model only the first does."""
    facts: Facts = field(default_factory=dict[str, Any])
    _started: float = field(default_factory=time.monotonic)
    _seconds_before: float = 0.0

    @property
    def checkpoints(self) -> Path:
        """Where the trainer saves its checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def seconds(self) -> float:
        """Wall time so far, that of resumed sessions included."""
        return self._seconds_before + time.monotonic() - self._started

    def log(self, metrics: Mapping[str, float | str], step: int) -> None:
        """Append one line to the metrics; what is not finite is written as null."""
        if not self.writes:
            return
        line = {"step": step, "seconds": round(self.seconds, 3)} | {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in metrics.items()
        }
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def record(self, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Merge ``facts`` into ``run.json``."""
        self.facts.update(facts)
        if self.writes:
            draft = self.path / f"{_FACTS}.new"
            draft.write_text(json.dumps(self.facts, indent=2, default=str) + "\n", encoding="utf-8")
            draft.replace(self.path / _FACTS)


@contextmanager
def new_run(
    stage: str,
    config: _Options,
    *,
    parents: Mapping[str, Path] | None = None,
    resume: bool = False,
) -> Generator[Run]:
    """A run folder for the length of a ``with`` block, finished only if the block ends well.

    An error before the first checkpoint leaves nothing behind; after it, what was done stays under
    ``<out>.partial`` and is taken up again with ``resume``.

    Raises:
        RunError: when ``out`` exists, is being written, cannot be written, or cannot be resumed.
    """
    if not str(config.out):
        raise RunError("the config names no folder to write; give it an `out`")
    lineage = {role: _lineage(folder) for role, folder in (parents or {}).items()}
    out = Path(config.out)
    partial = out.with_name(out.name + PARTIAL)
    if not processes.is_first():  # which makes and finishes the folder
        yield Run(partial, newest_checkpoint(partial) if resume else None, writes=False)
        return
    with disk.readable_errors(partial, out):
        lock = _claim(out, partial, resume=resume)
    try:
        with disk.readable_errors(partial, out):
            run = _open(stage, config, partial, resume=resume)
            run.record(parents=lineage)
            yield run
            _finish(run, out)
    except BaseException:
        if newest_checkpoint(partial) is None:
            # what brought us here matters more than a file that cannot be removed
            shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.close()


def open_run(path: str | Path, stage: str | Sequence[str] | None = None) -> FinishedRun:
    """The finished run at ``path``, of one of the wanted stages.

    Raises:
        RunError: when it is missing, unfinished, or of another stage.
    """
    folder = Path(path)
    partial = folder.with_name(folder.name + PARTIAL)
    if folder.name.endswith(PARTIAL) or (not folder.exists() and partial.exists()):
        raise RunError(_unfinished(folder if folder.exists() else partial))
    if not folder.exists():
        raise RunError(f"{folder}: there is no such run; `rlhf runs` lists those that are finished")
    facts = _read_facts(folder)
    if facts.get("status") != "finished":
        raise RunError(f"{folder}: the run never finished; run its stage again")
    wanted = (stage,) if isinstance(stage, str) else stage
    if wanted is not None and facts["stage"] not in wanted:
        raise RunError(
            f"{folder} is {_described([facts['stage']])}; {_described(wanted)} is needed here"
        )
    return FinishedRun(folder, facts["stage"], RunFolder(folder).read_config(), facts)


def list_runs(root: str | Path) -> list[FinishedRun]:
    """Every finished run under ``root``, the oldest first."""
    found = (f.parent for f in Path(root).rglob(_FACTS))
    runs = [open_run(f) for f in found if not _is_unfinished(f)]
    return sorted(runs, key=lambda run: (run.facts["finished"], run.path))


def list_unfinished(root: str | Path) -> list[Path]:
    """Every folder under ``root`` of a run that is being written or died."""
    return sorted(p.parent for p in Path(root).rglob(f"*{PARTIAL}/{_FACTS}"))


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is a run folder, finished or not, rather than a base model."""
    folder = Path(path)
    unfinished = folder.with_name(folder.name + PARTIAL)
    return any((f / _FACTS).exists() for f in (folder, unfinished))


def can_resume(path: str | Path) -> bool:
    """Whether the run of this name died after a checkpoint."""
    folder = Path(path)
    return newest_checkpoint(folder.with_name(folder.name + PARTIAL)) is not None


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The newest checkpoint that is complete; the trainer writes its state last."""
    states = run_folder.glob(f"{_CHECKPOINTS}/*/{_TRAINER_STATE}")
    complete = {s.parent: step for s in states if (step := _step_of(s.parent)) is not None}
    return max(complete, key=lambda folder: complete[folder], default=None)


def _step_of(checkpoint: Path) -> int | None:
    """The step of a checkpoint; None where the writing of its state was interrupted."""
    state = (checkpoint / _TRAINER_STATE).read_text(encoding="utf-8")
    try:
        return int(json.loads(state)["global_step"])
    except json.JSONDecodeError:
        return None


def _claim(out: Path, partial: Path, *, resume: bool) -> IO[str]:
    """Make the partial folder and lock it, so that two processes never write one run."""
    if out.exists():
        raise RunError(f"{out} exists already; choose another out=")
    if resume and not partial.exists():
        raise RunError(f"{out}: there is nothing to resume; leave out --resume")
    partial.mkdir(parents=True, exist_ok=True)
    lock = disk.lock(partial / _LOCK, out)
    if not resume and newest_checkpoint(partial) is not None:
        lock.close()
        raise RunError(_unfinished(partial))
    return lock


def _open(stage: str, config: _Options, partial: Path, *, resume: bool) -> Run:
    """The run in a folder that is ours: empty, or taken up where its checkpoint left it."""
    checkpoint = newest_checkpoint(partial) if resume else None
    resolved = cast("Facts", json.loads(json.dumps(to_dict(config), default=str)))
    facts = provenance.at_start(stage, resolved.get("seed"))
    if checkpoint is None:
        disk.empty(partial, keep=_LOCK)
        run = Run(partial, None, writes=True, facts=facts)
    else:
        _refuse_changes(partial, resolved)
        kept = _keep_metrics(partial / "metrics.jsonl", cast("int", _step_of(checkpoint)))
        before = _read_facts(partial)
        facts |= {k: before[k] for k in ("id", "started")}
        facts["resumed"] = [*before.get("resumed", []), checkpoint.name]
        run = Run(partial, checkpoint, writes=True, facts=before | facts, _seconds_before=kept)
    text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
    run.config_file.write_text(text, encoding="utf-8")
    provenance.reset_peak_memory()
    return run


def _finish(run: Run, out: Path) -> None:
    run.record(
        status="finished",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(run.seconds, 1),
        peak_memory_mb=provenance.peak_memory(),
        device=provenance.device(),
    )
    if run.adapter.exists() or run.model.exists():
        card = provenance.card(out.name, run.facts, run.read_metrics())
        run.card.write_text(card, encoding="utf-8")
    run.path.rename(out)
    shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)
    (out / _LOCK).unlink()


def _refuse_changes(partial: Path, resolved: Facts) -> None:
    """A resumed run is the same experiment, or it is another run."""
    before = RunFolder(partial).read_config()
    changed = [
        key
        for key in before.keys() | resolved.keys()
        if key not in MAY_CHANGE_ON_RESUME and before.get(key) != resolved.get(key)
    ]
    if changed:
        keys = ", ".join(f"`{key}`" for key in sorted(changed))
        raise RunError(
            f"{partial} was started with another {keys}; resume with "
            f"{RunFolder(partial).config_file}, or choose another out="
        )


def _keep_metrics(path: Path, step: int) -> float:
    """Drop the lines after ``step``, which will be done again; the seconds up to there."""
    kept = [line for line in disk.whole_lines(path) if json.loads(line)["step"] <= step]
    path.write_text("".join(kept), encoding="utf-8")
    return float(json.loads(kept[-1])["seconds"]) if kept else 0.0


def _read_facts(folder: Path) -> Facts:
    path = folder / _FACTS
    if not path.exists():
        raise RunError(f"{folder} is not a run folder: it has no {_FACTS}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is damaged ({error}); run the stage again") from error
    if not isinstance(facts, dict) or "stage" not in facts:
        raise RunError(f"{path} does not describe a run: it has no `stage`")
    return cast("Facts", facts)


def _is_unfinished(folder: Path) -> bool:
    inside = any(part.endswith(PARTIAL) for part in folder.parts)
    return inside or _read_facts(folder).get("status") != "finished"


def _lineage(folder: Path) -> dict[str, str]:
    return {"path": str(folder), "id": open_run(folder).facts["id"]}


def _unfinished(partial: Path) -> str:
    stage = _read_facts(partial)["stage"] if (partial / _FACTS).exists() else None
    if stage not in CONFIG_OF:
        return f"{partial} is unfinished; delete it and start again"
    command = f"rlhf {stage} {RunFolder(partial).config_file} --resume"
    return f"{partial} is unfinished; finish it with `{command}`, or delete it"


def _described(wanted: Sequence[str]) -> str:
    if tuple(wanted) == POLICY_STAGES:
        return f"a policy run ({', '.join(wanted[:-1])} or {wanted[-1]})"
    return f"{'an' if wanted[0] == 'sft' else 'a'} {' or '.join(wanted)} run"
