"""A folder that one process writes, and errors of a disk in one sentence."""

import errno
import fcntl
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rlhf.errors import RLHFError, RunError


def lock(path: Path, out: Path) -> IO[str]:
    """Hold ``path`` until the file is closed or the process dies.

    Raises:
        RunError: another process holds it.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunError(
            f"{out} is being written by another process; wait for it or choose another out="
        ) from error
    return file


def empty(folder: Path, *, keep: str) -> None:
    """Remove everything in ``folder`` but the file called ``keep``."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != keep:
            child.unlink()


def whole_lines(path: Path) -> Iterator[str]:
    """The lines of ``path``; a last one that was cut off by a kill is not one."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.endswith("\n"))


@contextmanager
def readable_errors(partial: Path, out: Path) -> Generator[None]:
    """Say in one sentence when the disk is full or the folder cannot be written."""
    try:
        yield
    except (RLHFError, KeyboardInterrupt):
        raise
    except Exception as error:
        remedy = _remedy(error, partial)
        if remedy is None:
            raise
        raise RunError(f"{out}: {remedy}") from error


def _remedy(error: BaseException, partial: Path) -> str | None:
    """What to do about an error of the disk; None for any other error."""
    if _is_disk_full(error, partial):
        return "the disk is full; free some space and start again, with --resume if it had begun"
    if not isinstance(error, OSError) or not _is_under(error.filename, partial):
        return None
    return f"the folder is not writable ({error.strerror}); choose another out="


def _is_disk_full(error: BaseException, partial: Path) -> bool:
    """Whether ``error``, or what caused it, comes from a full disk.

    safetensors says so in words only, and torch.save in no words at all (a RuntimeError).
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(cause):
            return True
        if "inline_container" in str(cause) and shutil.disk_usage(partial).free < 2**20:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_under(filename: object, partial: Path) -> bool:
    """Whether a file lies in the run folder, or is one of the folders above that we make."""
    if not isinstance(filename, (str, Path)):
        return False
    path, partial = Path(filename).absolute(), partial.absolute()
    return path.is_relative_to(partial) or partial.is_relative_to(path)
