import json
import random
import re
from collections import Counter
from statistics import mean

from rlhf.sandbox.corpus import Document, describe, documents, write_corpus
from rlhf.sandbox.staff import STAFF, ideal, reply
from rlhf.sandbox.world import prompts

WORDS = {"true", "false", "blank", "apt", "stray", "idle", "kind", "plain", "rude"} | {
    "short", "long", "done", "cut",
}  # fmt: skip


def notes_of(n):
    """Reply, note and whether the reply was learned, for every note in a corpus of ``n``."""
    for document in documents(0, n):
        text = document.prompt + document.completion
        for turn in re.finditer(r"assistant\n(.*?)<\|im_end\|>((?: [a-z]+){5})", text, re.DOTALL):
            yield turn[1], turn[2].split(), turn.start(2) > len(document.prompt)


def test_the_corpus_is_the_same_for_the_same_seed(tmp_path):
    first = write_corpus(tmp_path / "a.jsonl", seed=1, n=200)
    again = write_corpus(tmp_path / "b.jsonl", seed=1, n=200)
    other = write_corpus(tmp_path / "c.jsonl", seed=2, n=200)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_a_line_holds_one_document(tmp_path):
    lines = write_corpus(tmp_path / "corpus.jsonl", seed=1, n=50).read_text().splitlines()
    assert [Document(**json.loads(line)) for line in lines] == list(documents(1, 50))


def test_every_document_has_something_to_learn_after_a_users_turn():
    for document in documents(0, 500):
        assert document.prompt.startswith("<|im_start|>user\n")
        assert document.completion.strip()


def test_the_corpus_prefers_no_manner():
    """Rude and courteous chats are equally frequent, unlike at the desk, where few are rude."""
    said = [reply_ for reply_, _, _ in notes_of(8000)]
    rude = mean("Not again." in text for text in said)
    courteous = mean("Happy to help." in text for text in said)
    assert 0.5 < rude / courteous < 2
    assert sum(clerk.share for clerk in STAFF if clerk.name == "rude") < 0.2


def test_a_note_describes_the_reply_and_every_word_comes_first_now_and_then():
    first = Counter(note[0] for _, note, _ in notes_of(8000))
    assert set(first) == WORDS
    assert min(first.values()) > 10


def test_a_note_says_of_the_fact_what_is_true():
    rng = random.Random(0)
    for prompt in prompts(3, 200):
        assert {"true", "apt", "kind", "short", "done"} == set(
            describe(prompt, ideal(prompt), rng).split()
        )
        assert "false" in describe(prompt, reply(prompt, {"wrong_fact"}, rng), rng).split()
        assert "stray" in describe(prompt, reply(prompt, {"wrong_step"}, rng), rng).split()
        rude = describe(prompt, reply(prompt, {"rude", "no_step"}, rng), rng).split()
        assert {"rude", "idle"} <= set(rude)


def test_half_of_the_described_replies_are_not_learned():
    assert 0.35 < mean(learned for _, _, learned in notes_of(4000)) < 0.75
