"""How near a response is to one that a person wrote, and how well a policy predicts it."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import exp

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rlhf.evaluate.intervals import Estimate, bootstrap_mean

_WORD = re.compile(r"\w+")


def perplexity(nlls: Sequence[float], num_tokens: Sequence[int], seed: int = 0) -> Estimate:
    """``exp`` of the mean negative logprob of a token, with a bootstrap over texts.

    ``nlls`` holds for each text the sum over its tokens, ``num_tokens`` their number.
    """
    mean = bootstrap_mean(
        [nll / n for nll, n in zip(nlls, num_tokens, strict=True)], weights=num_tokens, seed=seed
    )
    return Estimate(exp(mean.value), exp(mean.low), exp(mean.high), mean.n)


def chrf(response: str, reference: str) -> float:
    """chrF2 of one response, 0 to 100. Popović 2015."""
    return _chrf().sentence_score(response, [reference]).score


def corpus_chrf(responses: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 over all responses together."""
    return _chrf().corpus_score(responses, [references]).score


def corpus_bleu(responses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 over all responses together, 0 to 100. Papineni et al. 2002, as sacrebleu counts."""
    return BLEU().corpus_score(responses, [references]).score


def rouge_l(response: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 1. Lin 2004."""
    return _rouge().score(reference, response)["rougeL"].fmeasure


def token_f1(response: str, reference: str) -> float:
    """F1 of the bags of lower-case words, 0 to 1; two texts without any agree."""
    ours, theirs = (Counter(_WORD.findall(t.lower())) for t in (response, reference))
    if not ours or not theirs:
        return float(ours == theirs)
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total())


@cache
def _chrf() -> CHRF:
    return CHRF()


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"])
