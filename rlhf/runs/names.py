"""Names for runs that were given none."""

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from rlhf.runs import disk
from rlhf.runs.run_paths import PARTIAL


@contextmanager
def name_by_date(stage: str, root: Path = Path("runs")) -> Generator[Path]:
    """A name for a run, such as ``runs/sft-20261201-153000``, for the length of a ``with`` block.

    Where others start in the same second it ends in a number. Until the run is written, its partial
    folder keeps the name from them.

    Raises:
        RunError: ``root`` cannot be written.
    """
    stem = f"{stage}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    out = next(root / name for name in names if _takes(root / name))
    mark = out.with_name(out.name + PARTIAL) / secrets.token_hex(8)
    mark.touch()
    try:
        yield out
    finally:
        if mark.exists():  # else a run was begun, which empties the folder first
            mark.unlink()
            mark.parent.rmdir()


def _takes(out: Path) -> bool:
    """Make the partial folder of ``out``; False where there was one, or the run itself."""
    partial = out.with_name(out.name + PARTIAL)
    with disk.readable_errors(partial, out):
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.mkdir()
        except FileExistsError:
            return False
    if out.exists():  # it has been renamed in between
        partial.rmdir()
        return False
    return True
