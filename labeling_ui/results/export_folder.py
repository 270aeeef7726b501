"""An export on disk: a folder with its card, all of it or nothing."""

import os
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from labeling_ui.results.dataset_card import dataset_card
from labeling_ui.results.export import Export
from labeling_ui.results.formats import Format, lists_of
from rlhf.errors import DataError

if TYPE_CHECKING:
    from rlhf.data.readers.containers import Container


def write_folder(
    result: Export, folder: Path, form: Format = "records", container: "Container" = "jsonl"
) -> None:
    """Write an export as a folder that ``rlhf`` and ``datasets`` read; all of it or nothing.

    Raises:
        DataError: if there is no vote yet, the campaign has nothing of this form, or ``folder``
            exists or cannot be written.
    """
    from rlhf.data.readers.containers import write_rows

    if not result.votes and not result.answers:
        raise DataError(
            f"campaign {result.status.name!r} has no votes yet; there is nothing to export"
        )
    lists = lists_of(result, form)
    if folder.exists():
        raise DataError(f"{folder}: exists already; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            part = Path(scratch, "part")
            part.mkdir()
            for name, rows in lists.items():
                write_rows(part, name, rows, container)
            card = dataset_card(result, _digests(part), form, container)
            (part / "README.md").write_text(card, encoding="utf-8")
            _settle_on_disk(part)
            part.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the export cannot be written ({error.strerror}); free space or name "
            "another folder"
        ) from error


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files
    }


def _settle_on_disk(folder: Path) -> None:
    """Wait until the disk has every file."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
