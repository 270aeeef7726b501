import csv
import gzip
import json

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import example, given
from hypothesis import strategies as st

from rlhf.data.readers.files import READERS, digest, rows
from rlhf.errors import DataError

ROWS = [{"prompt": "Hi", "chosen": "Hello.", "rejected": "No\u2028no"}, {"prompt": "Ünï", "n": 2}]
CUT_OFF = gzip.compress(b"{}" * 99, mtime=0)[:-9]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def only_rows(path, split=None):
    return [row for _, row in rows(path, split)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", f"\ufeff{LINES}\n\n"),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps({"data": ROWS})),
        ("a.json", LINES),
        ("a.json", json.dumps({"votes": [{}], "preferences": ROWS})),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
    ],
)
def test_the_same_rows_come_out_of_every_kind_of_json(tmp_path, name, content):
    assert only_rows(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_quoted_cell_may_hold_delimiters_and_lines_and_an_empty_one_is_missing(
    tmp_path, name, delimiter
):
    path = tmp_path / name
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            [["prompt", "completion", "x"], ["a,\tb", 'two\n"lines"', ""], ["c", "d", "e"]]
        )
    found = list(rows(str(path)))
    assert [row for _, row in found] == [
        {"prompt": "a,\tb", "completion": 'two\n"lines"', "x": None},
        {"prompt": "c", "completion": "d", "x": "e"},
    ]
    assert found[1][0] == f"{path}:4"


def test_parquet_and_saved_datasets_give_their_rows_split_by_split(tmp_path):
    train, test = Dataset.from_list(ROWS[:1]), Dataset.from_list(ROWS[1:])
    train.to_parquet(tmp_path / "a.parquet")
    DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "saved")
    train.save_to_disk(tmp_path / "single")
    assert only_rows(str(tmp_path / "a.parquet")) == ROWS[:1]
    assert only_rows(str(tmp_path / "single")) == ROWS[:1]
    assert only_rows(str(tmp_path / "saved")) == ROWS[:1]
    assert only_rows(str(tmp_path / "saved"), "test") == ROWS[1:]
    with pytest.raises(DataError, match=r"no split 'dev'; set split: to one of train, test"):
        only_rows(str(tmp_path / "saved"), "dev")


def test_a_label_export_is_read_from_its_preferences(tmp_path):
    write(tmp_path / "preferences.jsonl", LINES)
    write(tmp_path / "votes.jsonl", '{"comparison": "x"}')
    assert only_rows(str(tmp_path)) == ROWS


def test_a_text_file_is_one_document(tmp_path):
    assert only_rows(write(tmp_path / "a.txt", "One.\n\nTwo.")) == [{"text": "One.\n\nTwo."}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", "{}\n" * 6 + "{oops}\n", r"a.jsonl:7: not JSON .*; mend or remove the line"),
        ("a.jsonl", "{}\n[1]", r"a.jsonl:2: list where an object"),
        ("a.jsonl", b"{}\n\xff\n", r"a.jsonl:2: not UTF-8; save the file as UTF-8"),
        ("a.jsonl", '{"x": 1' + "0" * 5000 + "}", r"a.jsonl:1: not JSON"),
        ("a.jsonl", '{"x": Infinity}', r"a.jsonl:1: not JSON \(Infinity is not a JSON number\)"),
        ("a.jsonl", "[" * 100_000, r"a.jsonl:1: not JSON"),
        ("a.jsonl", "\n\n", r"a.jsonl: holds no rows"),
        ("a.jsonl", "", r"a.jsonl: holds no rows"),
        ("a.json", "", r"a.json: holds no rows"),
        ("a.json", "[{},\n\n{]", r"a.json:3: not JSON"),
        ("a.json", "3", r"a.json: no list of rows"),
        ("a.csv", "a,b\n1,2\n3\n", r"a.csv:3: 1 cells under 2 columns"),
        ("a.csv", "a,b\n", r"a.csv: holds no rows"),
        ("a.parquet", "PAR1", r"a.parquet: not a Parquet file"),
        ("a.jsonl.gz", "{}", r"a.jsonl.gz: not a whole gzip file"),
        (
            "a.jsonl.gz",
            gzip.compress(b"{}" * 99, mtime=0)[:-9],
            r"a.jsonl.gz: not a whole gzip file",
        ),
        ("a.xlsx", "", r"a.xlsx: unknown kind of file; use one of .jsonl, .ndjson"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_the_place(tmp_path, name, content, sentence):
    with pytest.raises(DataError, match=sentence):
        only_rows(write(tmp_path / name, content))


@pytest.mark.parametrize(
    "path", ["data/none.jsonl", "./none", "/no/such/folder", "a.csv.gz", "tests/none"]
)
def test_a_missing_file_is_not_looked_for_on_the_hub(path):
    with pytest.raises(DataError, match="no such file; check the path"):
        only_rows(path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    write(tmp_path / "notes.md", "hello")
    with pytest.raises(
        DataError, match="neither a folder written by `datasets` nor a label export"
    ):
        only_rows(str(tmp_path))
    write(tmp_path / "dataset_info.json", "[]")
    write(tmp_path / "state.json", '{"_data_files": 3}')
    with pytest.raises(
        DataError, match="neither a folder written by `datasets` nor a label export"
    ):
        only_rows(str(tmp_path))


def test_nan_is_a_missing_value(tmp_path):
    assert only_rows(write(tmp_path / "a.jsonl", '{"margin": NaN}')) == [{"margin": None}]


@pytest.mark.parametrize("suffix", READERS)
@given(content=st.binary(max_size=80) | st.text(max_size=60).map(str.encode))
@example(content=b'{"a": 1}\n{"a": 2}')
@example(content=b'"a\0","b"\n1,2')
@example(content=b'a,"b')
def test_any_bytes_give_rows_or_a_data_error(suffix, content):
    try:
        found = list(READERS[suffix]("f", content))
    except DataError as error:
        assert str(error).startswith("f")  # noqa: PT017 - any other error must fail the test
    else:
        assert all(isinstance(row, dict) for _, row in found)


def test_a_digest_changes_with_a_byte_or_a_name_and_with_nothing_else(tmp_path):
    one = write(tmp_path / "one.txt", "same")
    assert (
        digest(one)
        == digest(write(tmp_path / "two.txt", "same"))
        != digest(write(tmp_path / "three.txt", "other"))
    )
    before = digest(str(tmp_path))
    assert before == digest(str(tmp_path))
    (tmp_path / "two.txt").rename(tmp_path / "four.txt")
    assert digest(str(tmp_path)) != before
    assert digest("org/name") == "hub:org/name"
