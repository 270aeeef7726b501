"""Containers: from a path or a hub name to plain rows, each with the place it stands at."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from rlhf.errors import DataError

Row = Mapping[str, Any]
Placed = tuple[str, Row]
"""A row and where it stands, as people write it: ``train.jsonl:7``."""

EXPORT = ("preferences", "feedback")
"""The files of a label export that stages train on, whatever container they are in."""
_BIGGEST_CELL = 2**31 - 1
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError)
"""What `datasets` and pyarrow raise for files that are not what they should be."""


def rows(path: str, split: str | None = None) -> Iterator[Placed]:
    """The rows of a file, of a folder written by `datasets` or by the labelling app, or of the hub.

    Raises:
        DataError: if there is no such thing, it is empty, or a row cannot be decoded.
    """
    place = Path(path)
    if (exported := _exported(place)) is not None:
        if exported.is_file():
            found = _rows_of_file(exported)
        else:
            found = _rows_of_dataset(str(exported), split, _saved)
    elif place.is_dir():
        found = _rows_of_dataset(path, split, _saved)
    elif place.is_file():
        found = _rows_of_file(place)
    elif _looks_like_file(path):
        raise DataError(f"{path}: no such file; check the path")
    else:
        found = _rows_of_dataset(path, split, _downloaded)
    empty = True
    for row in found:
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: holds no rows; give a file with at least one")


def _exported(folder: Path) -> Path | None:
    """What a label export holds to train on; of two, the first that holds anything."""
    there = [
        path
        for stem in EXPORT
        for path in (folder / f"{stem}.jsonl", folder / f"{stem}.parquet", folder / stem)
        if path.is_file() or (path / "dataset_info.json").is_file()
    ]
    full = [path for path in there if path.is_dir() or path.stat().st_size]
    return next(iter(full or there), None)


def digest(path: str) -> str:
    """``sha256:`` of a file's bytes, or of a folder's files in order; of a hub name, the name."""
    place = Path(path)
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    if not place.exists():
        return f"hub:{path}"
    total = hashlib.sha256()
    for file in files:
        if place.is_dir():
            total.update(file.relative_to(place).as_posix().encode())
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                total.update(block)
    return f"sha256:{total.hexdigest()}"


def _looks_like_file(path: str) -> bool:
    """Hub names are ``name`` or ``organisation/name``, neither of which is here."""
    parts = Path(path).parts
    beside = len(parts) == 2 and Path(parts[0]).is_dir()
    elsewhere = path.startswith((".", "/", "~")) or len(parts) > 2 or beside
    return elsewhere or _suffix(Path(path)) in READERS


def _suffix(path: Path) -> str:
    """The suffix that says what is inside: that before ``.gz``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _rows_of_file(path: Path) -> Iterator[Placed]:
    reader = READERS.get(_suffix(path))
    if reader is None:
        known = ", ".join(READERS)
        raise DataError(f"{path}: unknown kind of file; use one of {known} (also with .gz)")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a whole gzip file ({error}); copy it again") from error
    return reader(str(path), content)


def read_jsonl(place: str, content: bytes) -> Iterator[Placed]:
    """One JSON object on each line; blank lines are passed over."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            here = f"{place}:{number}"
            yield here, _object(here, _json(here, _text(here, line)))


def read_json(place: str, content: bytes) -> Iterator[Placed]:
    """A list of objects, an object that holds one such list, or, misnamed, JSON lines."""
    text = _text(place, content)
    if not text.strip():
        return
    try:
        data = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from read_jsonl(place, content)
            return
        raise DataError(f"{place}:{error.lineno}: not JSON ({error.msg}); mend it") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON that can be read ({error}); mend it") from error
    for number, row in enumerate(_list_in(place, data), start=1):
        here = f"{place}, row {number}"
        yield here, _object(here, row)


def read_csv(place: str, content: bytes, delimiter: str = ",") -> Iterator[Placed]:
    """A header line and rows; an empty cell counts as missing."""
    csv.field_size_limit(_BIGGEST_CELL)
    reader = csv.reader(io.StringIO(_text(place, content), newline=""), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{place}:{reader.line_num}: {error}; mend the line") from error
        here = f"{place}:{reader.line_num}"
        if header is None:
            header = cells
        elif cells:
            if len(cells) != len(header):
                raise DataError(
                    f"{here}: {len(cells)} cells under {len(header)} columns; quote the cells "
                    "that hold the delimiter or a line break"
                )
            yield here, {k: v or None for k, v in zip(header, cells, strict=True)}


def read_tsv(place: str, content: bytes) -> Iterator[Placed]:
    """As :func:`read_csv`, with tabs between the cells."""
    return read_csv(place, content, delimiter="\t")


def read_parquet(place: str, content: bytes) -> Iterator[Placed]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(pa.BufferReader(content)).iter_batches():
            for row in cast("list[dict[str, Any]]", batch.to_pylist()):
                number += 1
                yield f"{place}, row {number}", row
    except (*_UNREADABLE, pa.ArrowException) as error:
        raise DataError(f"{place}: not a Parquet file ({_short(error)}); write it again") from error


def read_text(place: str, content: bytes) -> Iterator[Placed]:
    """The whole file as one document, in the column ``text``."""
    text = _text(place, content)
    if text.strip():
        yield f"{place}:1", {"text": text}


READERS: dict[str, Callable[[str, bytes], Iterator[Placed]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".txt": read_text,
}


def _text(place: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        here = f"{place}:{line + 1}" if line or ":" not in place else place
        raise DataError(f"{here}: not UTF-8; save the file as UTF-8") from error


def _loads(text: str) -> Any:  # noqa: ANN401 - JSON is untyped
    return json.loads(text, parse_constant=_constant)


def _constant(name: str) -> None:
    """NaN is how pandas writes a missing value; infinities mean nothing here."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON number")


def _json(here: str, line: str) -> Any:  # noqa: ANN401 - JSON is untyped
    try:
        return _loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{here}: not JSON ({_short(error)}); mend or remove the line") from error


def _object(here: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{here}: {type(row).__name__} where an object {{...}} is needed; mend it")
    return cast("Row", row)


def _list_in(place: str, data: object) -> list[object]:
    if isinstance(data, dict):
        inside = cast("dict[str, object]", data)
        lists = [inside["preferences"]] if "preferences" in inside else list(inside.values())
        lists = [value for value in lists if isinstance(value, list)]
        data = cast("object", lists[0]) if len(lists) == 1 else None
    if not isinstance(data, list):
        raise DataError(f"{place}: no list of rows; write [{{...}}, {{...}}] or JSON lines")
    return cast("list[object]", data)


def _rows_of_dataset(
    path: str, split: str | None, load: Callable[[str, str | None], Any]
) -> Iterator[Placed]:
    from datasets.exceptions import DatasetsError

    try:
        dataset = load(path, split)
        stream: Iterable[Row] = dataset
        for number, row in enumerate(stream, start=1):
            yield f"{path}, row {number}", row
    except (*_UNREADABLE, DatasetsError) as error:
        what = (
            "neither a folder written by `datasets` nor a label export"
            if load is _saved
            else "no such file, and not a data set that the hub gives"
        )
        raise DataError(f"{path}: {what} ({_short(error)}); check the name") from error


def _saved(path: str, split: str | None) -> Any:  # noqa: ANN401 - Dataset or one of its splits
    from datasets import load_from_disk

    return _one_split(path, load_from_disk(path), split)


def _downloaded(path: str, split: str | None) -> Any:  # noqa: ANN401 - Dataset or one of its splits
    from datasets import load_dataset

    return _one_split(path, load_dataset(path), split)


def _one_split(path: str, found: Any, split: str | None) -> Any:  # noqa: ANN401 - see above
    if not isinstance(found, dict):
        return found
    splits = cast("dict[str, Any]", found)
    wanted = split or (next(iter(splits)) if len(splits) == 1 else "train")
    if wanted not in splits:
        raise DataError(f"{path}: no split {wanted!r}; set split: to one of {', '.join(splits)}")
    return splits[wanted]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
