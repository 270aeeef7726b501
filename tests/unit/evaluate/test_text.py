from collections import Counter
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.evaluate.text import (
    chrf,
    corpus_bleu,
    corpus_chrf,
    perplexity,
    rouge_l,
    token_f1,
)

WORDS = ["the", "a", "cat", "sat", "on", "mat", "dog", "ran", "far"]
words = st.lists(st.sampled_from(WORDS), max_size=9)
sentences = words.map(" ".join)
METRICS = {
    "chrf": (chrf, 100.0),
    "corpus_chrf": (lambda a, b: corpus_chrf([a], [b]), 100.0),
    "rouge_l": (rouge_l, 1.0),
    "token_f1": (token_f1, 1.0),
}


def test_perplexity_is_over_tokens_not_texts():
    # (4 tokens, 2 nats each) and (1 token, 7 nats): exp(15 / 5)
    assert perplexity([8.0, 7.0], [4, 1]).value == pytest.approx(exp(3))


def test_guessing_among_k_tokens_has_perplexity_k():
    found = perplexity([log(50) * n for n in (3, 9, 1)], [3, 9, 1])
    assert (found.value, found.low, found.high) == pytest.approx((50, 50, 50))


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9)), min_size=1, max_size=9))
def test_perplexity_lies_within_its_interval(texts):
    nlls, sizes = zip(*texts, strict=True)
    found = perplexity(nlls, sizes)
    assert found.value == pytest.approx(exp(sum(nlls) / sum(sizes)))
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)


def chrf_oracle(response, reference):
    """Popović 2015: mean precision and recall of character 1- to 6-grams, beta 2, no spaces."""
    a, b = ("".join(t.split()) for t in (response, reference))
    precisions, recalls = [], []
    for n in range(1, 7):
        ours, theirs = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (a, b))
        if ours and theirs:  # an order that one of them is too short for is left out
            common = sum((ours & theirs).values())
            precisions.append(common / sum(ours.values()))
            recalls.append(common / sum(theirs.values()))
    if not precisions:
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 500 * p * r / (4 * p + r) if p + r else 0.0


@given(response=sentences, reference=sentences)
def test_chrf_agrees_with_the_paper(response, reference):
    assert chrf(response, reference) == pytest.approx(chrf_oracle(response, reference), abs=1e-6)


def lcs(a, b):
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + lcs(a[:-1], b[:-1])
    return max(lcs(a[:-1], b), lcs(a, b[:-1]))


@given(response=words.map(lambda w: w[:7]), reference=words.map(lambda w: w[:7]))
def test_rouge_l_agrees_with_the_paper(response, reference):
    length = lcs(response, reference)
    expected = 2 * length / (len(response) + len(reference)) if length else 0.0
    assert rouge_l(" ".join(response), " ".join(reference)) == pytest.approx(expected)


def test_bleu_by_hand():
    # precisions 5/6, 3/5, 2/4, 1/3 and no brevity penalty: 100 * (5/6 * 3/5 * 1/2 * 1/3) ** .25
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    found = corpus_bleu(["the cat sat on a mat"], ["the cat sat on the mat"])
    assert found == pytest.approx(expected)


def test_bleu_punishes_what_is_too_short():
    text = "the cat sat on the mat today"
    assert corpus_bleu([text[:22]], [text]) == pytest.approx(100 * exp(1 - 7 / 6))


def test_token_f1_by_hand():
    # common: the, cat; 3 words against 4
    assert token_f1("The cat ran!", "the cat, the mat") == pytest.approx(2 * 2 / (3 + 4))
    assert token_f1("", "") == 1.0
    assert token_f1("?!", "cat") == 0.0


@pytest.mark.parametrize("name", METRICS)
@given(a=sentences, b=sentences)
def test_a_text_is_nearest_to_itself(name, a, b):
    metric, best = METRICS[name]
    assert 0 <= metric(a, b) <= best + 1e-9
    if a:
        assert metric(a, a) == pytest.approx(best)


@given(a=sentences, b=sentences)
def test_the_word_measures_are_symmetric(a, b):
    assert rouge_l(a, b) == pytest.approx(rouge_l(b, a))
    assert token_f1(a, b) == pytest.approx(token_f1(b, a))


@given(texts=st.lists(sentences.filter(bool), min_size=1, max_size=4))
def test_a_corpus_is_judged_as_a_whole(texts):
    assert corpus_chrf(texts, texts) == pytest.approx(100)
    assert corpus_chrf(texts, ["zzz"] * len(texts)) == 0
