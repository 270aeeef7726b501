"""A binomial model of which side wins, with intervals that hold although raters repeat themselves.

Votes of one rater are not independent. The covariance is the cluster jackknife: how much the
coefficients move as each rater is left out, to first order (CV3L of MacKinnon, Nielsen and Webb
2025, "Cluster-robust jackknife and bootstrap inference for logistic regression models", arXiv
2406.00650). Unlike the plain sandwich it stays honest where few raters give most of the votes.
"""

import warnings
from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linprog
from scipy.special import expit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from rlhf.evaluate.intervals import LEVEL, Estimate

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Votes:
    """A row per vote: covariates, the left side's share of it (1, 0.5 or 0), and the rater."""

    x: Matrix
    y: Vector
    raters: NDArray[np.int64]
    """Numbered from 0."""

    @property
    def num_raters(self) -> int:
        """How many different raters voted."""
        return len(np.unique(self.raters))


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients of a model and how sure they are."""

    coefficients: Vector
    covariance: Matrix
    """Of the cluster jackknife; infinite with a single rater."""
    information: Matrix
    num_raters: int
    num_votes: int
    half_votes: bool
    """The votes alone did not settle the coefficients, so half-votes were added to them."""

    def estimate(self, contrast: Vector) -> Estimate:
        """A sum of coefficients, with a t interval with one degree of freedom less than raters."""
        value, error = float(contrast @ self.coefficients), self._error(contrast)
        half = float(stats.t.ppf((1 + LEVEL) / 2, self._freedom)) * error
        return Estimate(value, value - half, value + half, self.num_votes)

    def p_value(self, contrast: Vector) -> float:
        """Chance of a sum at least this far from 0 if it were 0."""
        error = self._error(contrast)
        if not isfinite(error):
            return 1.0
        return float(2 * stats.t.sf(abs(contrast @ self.coefficients) / error, self._freedom))

    @property
    def _freedom(self) -> int:
        return max(self.num_raters - 1, 1)

    def _error(self, contrast: Vector) -> float:
        if self.num_raters < 2:
            return inf
        variance = float(contrast @ self.covariance @ contrast)
        if self.half_votes:
            # raters who all say the same differ little from each other, and yet tell little
            variance = max(variance, float(contrast @ np.linalg.solve(self.information, contrast)))
        return sqrt(max(variance, _TINY**2))


def fit(votes: Votes, spare: Matrix) -> Fit | None:
    """The model of ``votes`` by maximum likelihood, or None where none can be had.

    Where the votes alone do not settle it, because some coefficient is driven to infinity (Albert
    and Anderson 1984) or known from one rater only, a half-vote (y = 0.5, weight 0.5) is added for
    each row of ``spare``. None if that is not enough either, or columns depend on each other.
    """
    if np.linalg.matrix_rank(votes.x) < votes.x.shape[1]:
        return None
    for added in (spare[:0], spare):
        rows = Votes(
            np.vstack([votes.x, added]),
            np.concatenate([votes.y, np.full(len(added), 0.5)]),
            votes.raters,
        )
        # nothing but ties would pass for certainty
        if is_separated(rows.x, rows.y) or (not len(added) and (votes.y == 0.5).all()):
            continue
        found = _fit(rows, len(added))
        if found is not None:
            return found
    return None


def is_separated(x: Matrix, y: Vector) -> bool:
    """Whether some direction explains every vote, wholly or in part, and contradicts none.

    Then the likelihood has no maximum. The linear program of Konis 2007.
    """
    rows = np.unique(np.column_stack([x, y]), axis=0)
    x, y = rows[:, :-1], rows[:, -1]
    signed = np.vstack([x[y > 0], -x[y < 1]])
    result = linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1.0, 1.0)
    )
    # such a direction can be as long as the bounds allow; without one only 0 is left
    return bool(np.abs(result.x).max() > 0.5)


def _fit(votes: Votes, num_added: int) -> Fit | None:
    """None where leaving one rater out leaves some coefficient unknown."""
    size = votes.x.shape[1]
    num_votes = len(votes.raters)
    weights = np.concatenate([np.ones(num_votes), np.full(num_added, 0.5)])
    model = GLM(votes.y, votes.x, Binomial(), var_weights=weights)
    with warnings.catch_warnings():
        # it takes nothing but ties, which are fitted perfectly, for separated votes
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        coefficients = np.asarray(model.fit(tol=1e-10).params, dtype=np.float64)
    expected = expit(votes.x @ coefficients)
    information = (votes.x * (weights * expected * (1 - expected))[:, None]).T @ votes.x
    num_raters = votes.num_raters
    covariance = np.full((size, size), inf)
    if num_raters > 1:
        found = _jackknife(votes, expected[:num_votes], information)
        if found is None:
            return None
        covariance = found
    return Fit(coefficients, covariance, information, num_raters, num_votes, num_added > 0)


def _jackknife(votes: Votes, expected: Vector, information: Matrix) -> Matrix | None:
    """The covariance of the steps that leaving out each rater takes."""
    _, rater = np.unique(votes.raters, return_inverse=True)
    x, y = votes.x[: len(expected)], votes.y[: len(expected)]
    count = int(rater.max()) + 1
    size = x.shape[1]
    scores = np.zeros((count, size))
    np.add.at(scores, rater, (y - expected)[:, None] * x)
    without = np.repeat(information[None], count, axis=0)
    spread = expected * (1 - expected)
    for i in range(size):
        for j in range(size):
            without[:, i, j] -= np.bincount(rater, spread * x[:, i] * x[:, j], minlength=count)
    least = np.linalg.eigvalsh(without)[:, 0]
    if (least < 1e-6 * np.linalg.eigvalsh(information)[0]).any():
        return None
    steps = np.linalg.solve(without, scores[:, :, None])[:, :, 0]
    return (count - 1) / count * steps.T @ steps
