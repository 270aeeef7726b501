"""Rows into files: the counterpart of :mod:`rlhf.data.readers.files`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlhf.errors import DataError

Container = Literal["jsonl", "parquet", "datasets"]
Rows = Sequence[Mapping[str, Any]]


def as_jsonl(rows: Rows) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_rows(folder: Path, name: str, rows: Rows, container: Container) -> None:
    """Write ``name.jsonl``, ``name.parquet``, or a folder ``name`` for ``load_from_disk``.

    A column needs rows to have a type: without any, only JSONL leaves a file.

    Raises:
        DataError: if the rows do not fit into columns.
    """
    if container == "jsonl":
        (folder / f"{name}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
    elif rows:
        _WRITERS[container](folder / name, _table(name, rows))


def _table(name: str, rows: Rows) -> Any:  # noqa: ANN401 - pyarrow is untyped
    import pyarrow as pa

    columns = {key: None for row in rows for key in row}
    values = {key: [row.get(key) for row in rows] for key in columns}
    filled = {k: v for k, v in values.items() if any(one is not None for one in v)}
    try:
        return pa.table(filled)
    except (pa.ArrowException, OverflowError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{name}: the rows do not fit into columns ({reason}); write them as jsonl"
        ) from error


def _parquet(path: Path, table: Any) -> None:  # noqa: ANN401 - pyarrow is untyped
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(table, path.with_name(f"{path.name}.parquet"))
    except pa.ArrowException as error:  # an object without any key is no column of Parquet
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path.name}: {reason}; write it as jsonl") from error


def _datasets(path: Path, table: Any) -> None:  # noqa: ANN401 - pyarrow is untyped
    from datasets import Dataset

    Dataset(table).save_to_disk(path)


_WRITERS: dict[Container, Callable[[Path, Any], None]] = {
    "parquet": _parquet,
    "datasets": _datasets,
}
