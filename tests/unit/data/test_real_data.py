"""Every file of the real data beside the checkout is read, row by row, as what it is."""

import json
from pathlib import Path

import pytest

from rlhf.config import SourceConfig
from rlhf.data.readers.foreign import read_foreign
from rlhf.data.sources import read, read_texts
from rlhf.records import Demonstration, Feedback, Preference, Prompt

pytestmark = pytest.mark.shared_data

BESIDE = [parent / "shared" / "data" for parent in Path(__file__).parents]
DATA = next((folder for folder in BESIDE if folder.is_dir()), None)

FILES = [
    ("ukp_convincing_arguments/train.jsonl.gz", Preference, 8998),  # of 9870 pairs, 872 are ties
    ("ukp_convincing_arguments/train.jsonl.gz", Prompt, 10_130),
    ("ukp_convincing_arguments/valid.jsonl.gz", Preference, 1929),
    ("hh_harmless/train.jsonl.gz", Preference, 1605),
    ("hh_harmless/valid.jsonl.gz", Preference, 248),
    ("pandalm/testset-v1.json", Preference, 800),
    ("pandalm/testset-v1.json", Prompt, 999),
    ("finegrained_rlhf/dev_feedback.json.gz", Preference, 2616),  # of 3,000 pairs, 384 are ties
    ("taskmaster_thumbs/tm-3-2020.train.jsonl.gz", Feedback, 2940),
    ("taskmaster_thumbs/tm-4-2024.train.jsonl.gz", Feedback, 2419),
    ("taskmaster_coffee/dialogues.jsonl.gz", Demonstration, 3710),
    ("sgd_dialogues/train.jsonl.gz", Demonstration, 12_174),
    ("sgd_dialogues/dev.jsonl.gz", Demonstration, 2098),
    ("multiwoz/dialogs.jsonl.gz", Demonstration, 1999),
    ("persona_chat/dialogs.jsonl.gz", Demonstration, 1967),  # one of 1,968 has no turns
    ("childrens_books/books.jsonl.gz", str, 71),
    ("pratham_stories/stories.jsonl.gz", str, 709),  # two of 711 are blank
    ("blimp/blimp.jsonl.gz", Preference, 66_999),
    ("crows_pairs/crows_pairs_anonymized.csv", Preference, 1507),
    ("bias_madlibs/en_sentence_templates.csv.gz", Feedback, 76_564),
    ("xstest/xstest_prompts.csv", Prompt, 450),
]


@pytest.mark.skipif(DATA is None, reason="the real data are not beside this checkout")
@pytest.mark.parametrize(("name", "kind", "count"), FILES)
def test_a_real_file_is_read_whole(name, kind, count):
    assert DATA is not None
    source = SourceConfig(path=str(DATA / name))
    found = read_texts(source) if kind is str else read(source, kind)
    assert len(found) == count
    assert all(type(record) is kind for record in found)


@pytest.mark.skipif(DATA is None, reason="the real data are not beside this checkout")
def test_no_real_file_is_forgotten():
    assert DATA is not None
    there = {
        str(path.relative_to(DATA))
        for path in DATA.rglob("*")
        if path.is_file() and path.suffix not in (".md", ".txt")
    }
    assert there == {name for name, _, _ in FILES}


@pytest.mark.skipif(DATA is None, reason="the real data are not beside this checkout")
def test_real_votes_written_as_arena_battles_settle_to_the_same(tmp_path):
    """Of 999 comparisons by three people each, those with two different answers."""
    assert DATA is not None
    winners = ("tie", "model_a", "model_b")
    rows = json.loads((DATA / "pandalm/testset-v1.json").read_text())
    battles = [
        {
            "model_a": "panda-1",
            "model_b": "panda-2",
            "winner": winners[int(row[f"annotator{judge}"])],
            "judge": f"annotator{judge}",
            "anony": True,
            **{
                f"conversation_{side}": [
                    {"role": "user", "content": f"{row['instruction']}\n\n{row['input']}"},
                    {"role": "assistant", "content": str(row[f"response{number}"])},
                ]
                for side, number in (("a", 1), ("b", 2))
            },
        }
        for row in rows
        for judge in (1, 2, 3)
    ]
    path = tmp_path / "battles.json"
    path.write_text(json.dumps(battles))
    haul = read_foreign(str(path), "arena")
    assert len(haul.rows) + sum(haul.left_out.values()) == 2997
    assert haul.left_out.keys() <= {"empty answer", "same answers"}
    kept = {(one.responses[0].text, one.responses[1].text) for one in haul.rows}
    asis = read(SourceConfig(path=str(DATA / "pandalm/testset-v1.json")), Preference)
    expected = {
        (p.chosen, p.rejected, p.margin)
        for p in asis
        if (p.chosen, p.rejected) in kept or (p.rejected, p.chosen) in kept
    }
    found = {
        (p.chosen, p.rejected, p.margin) for p in read(SourceConfig(path=str(path)), Preference)
    }
    assert found == expected
    assert len(found) > 700
