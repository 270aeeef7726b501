"""What judges pairs of responses without understanding them: a reward model must do better."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from rlhf.records import Preference

Judge = Callable[[Sequence[Preference]], list[float]]
"""Pairs to margins: above 0 where it holds the chosen response for the better one."""
_WORD = re.compile(r"\w+")


def longer_wins(pairs: Sequence[Preference]) -> list[float]:
    """The longer response, in characters, is the better one."""
    return [float(len(pair.chosen) - len(pair.rejected)) for pair in pairs]


def surface(text: str, prompt: str) -> list[float]:
    """Twelve things about a response that can be counted."""
    words = [word.lower() for word in _WORD.findall(text)]
    different = set(words)
    known = set(_WORD.findall(prompt.lower()))
    letters = sum(character.isalpha() for character in text)
    return [
        float(len(text)),
        float(np.log1p(len(words))),
        sum(map(len, words)) / max(len(words), 1),
        len(different) / max(len(words), 1),
        float(len(re.findall(r"[.!?]+", text))),
        float(text.count("?")),
        float(text.count("!")),
        float(text.count(",")),
        float(text.count("\n")),
        float(sum(character.isdigit() for character in text)),
        sum(character.isupper() for character in text) / max(letters, 1),
        len(different & known) / max(len(different), 1),
    ]


def fit_surface(train: Sequence[Preference]) -> Judge:
    """Logistic regression on the differences of :func:`surface`."""
    return _fit(train, _surface_difference(StandardScaler(with_mean=False), train))


def fit_tfidf(train: Sequence[Preference]) -> Judge:
    """Logistic regression on the differences of TF-IDF weights of words and pairs of words."""
    return _fit(train, _tfidf_difference(train))


def fit_both(train: Sequence[Preference]) -> Judge:
    """Logistic regression on both kinds of differences together."""
    # as wide as TF-IDF weights are, so that the penalty treats both alike
    counted = _surface_difference(MaxAbsScaler(), train)
    worded = _tfidf_difference(train)

    def difference(pairs: Sequence[Preference]) -> sparse.csr_matrix:
        return sparse.csr_matrix(sparse.hstack([worded(pairs), counted(pairs)]))

    return _fit(train, difference)


FLOORS: dict[str, Callable[[Sequence[Preference]], Judge]] = {
    "longer wins": lambda _: longer_wins,
    "surface features": fit_surface,
    "TF-IDF": fit_tfidf,
    "TF-IDF + surface": fit_both,
}


@dataclass(frozen=True, slots=True)
class Floors:
    """The four judges, fitted to the same training pairs."""

    num_train: int
    judges: Mapping[str, Judge]

    @classmethod
    def fitted(cls, train: Sequence[Preference]) -> Self:
        """All of them on ``train``."""
        return cls(len(train), {name: fit(train) for name, fit in FLOORS.items()})


_Difference = Callable[[Sequence[Preference]], sparse.csr_matrix]


def _surface_difference(
    scaler: StandardScaler | MaxAbsScaler, train: Sequence[Preference]
) -> _Difference:
    def raw(pairs: Sequence[Preference]) -> np.ndarray:
        return np.asarray(
            [
                np.subtract(surface(p.chosen, p.prompt.text), surface(p.rejected, p.prompt.text))
                for p in pairs
            ]
        )

    scaler.fit(raw(train))
    return lambda pairs: sparse.csr_matrix(scaler.transform(raw(pairs)))


def _tfidf_difference(train: Sequence[Preference]) -> _Difference:
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=min(2, len(train)), token_pattern=r"(?u)\w+"
    )
    words.fit([text for pair in train for text in (pair.chosen, pair.rejected)])

    def difference(pairs: Sequence[Preference]) -> sparse.csr_matrix:
        chosen, rejected = (
            words.transform(texts)
            for texts in ([p.chosen for p in pairs], [p.rejected for p in pairs])
        )
        return sparse.csr_matrix(chosen - rejected)

    return difference


def _fit(train: Sequence[Preference], difference: _Difference) -> Judge:
    x = difference(train)
    # a pair and its mirror image say the same; half are mirrored to have both classes
    sign = np.where(np.arange(len(train)) % 2, -1.0, 1.0)
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(sparse.diags(sign) @ x, sign)

    def judge(pairs: Sequence[Preference]) -> list[float]:
        return [float(margin) for margin in model.decision_function(difference(pairs))]

    return judge
