import json
import re
from collections import Counter
from statistics import mean

from rlhf.records import Message, Prompt
from rlhf.sandbox.corpus import documents, write_corpus
from rlhf.sandbox.staff import STAFF
from rlhf.sandbox.world import MONTHS


def test_the_corpus_is_the_same_for_the_same_seed(tmp_path):
    first = write_corpus(tmp_path / "a.jsonl", seed=1, n=200)
    again = write_corpus(tmp_path / "b.jsonl", seed=1, n=200)
    other = write_corpus(tmp_path / "c.jsonl", seed=2, n=200)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_a_line_holds_the_messages_of_one_document(tmp_path):
    lines = write_corpus(tmp_path / "corpus.jsonl", seed=1, n=50).read_text().splitlines()
    read = [tuple(Message(**m) for m in json.loads(line)["messages"]) for line in lines]
    assert read == list(documents(1, 50))


def test_every_document_ends_with_words_to_learn():
    for document in documents(0, 500):
        assert document[-1].role == "assistant"
        assert document[0].role == "user"
        assert document[-1].content or len(document) == 2


def test_the_corpus_prefers_no_manner():
    """Rude and courteous chats are equally frequent, unlike at the desk, where few are rude."""
    chats = [d[-1].content for d in documents(0, 4000) if d[0].content.startswith("[")]
    rude = mean("Not again." in text for text in chats)
    courteous = mean("Happy to help." in text for text in chats)
    assert 0.5 < rude / courteous < 2
    assert sum(clerk.share for clerk in STAFF if clerk.name == "rude") < 0.2


VERDICT = re.compile(r"(right|wrong|no) fact, (right|wrong|no) step\. .+")
VALUE = re.compile(rf"\d+(?: (?:{'|'.join(MONTHS)}))?")


def test_verdicts_are_true():
    """A reply and the verdict's own answer state the same value exactly if the fact is right."""
    checked = Counter()
    for document in documents(0, 6000):
        if len(document) != 3 or not (found := VERDICT.fullmatch(document[-1].content)):
            continue
        if not (answer := VALUE.findall(document[-1].content)):
            continue  # a refusal: nothing to compare
        said = VALUE.findall(document[1].content)
        assert (said == answer, said == []) == (found[1] == "right", found[1] == "no"), document
        checked[found.groups()] += 1
    assert len(checked) == 9
    assert min(checked.values()) > 20


def test_prompts_of_the_corpus_have_a_place_for_a_reply():
    assert all(Prompt(d[:1]).messages[0].role == "user" for d in documents(0, 20))
