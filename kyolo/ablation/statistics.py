"""The statistics of a comparison: paired differences of AP, one per seed, and what they say.

Everything random is drawn from fixed seeds, so that the same numbers give the same report.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval
ALPHA = 1 - LEVEL
POWER = 0.8  # chance that a study finds an effect of the size that `detectable_effect` returns
RESAMPLES = 9999
MAX_PAIRS = 1000  # `pairs_needed` looks no further

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One variant against the baseline.

    Attributes:
        differences: AP of the variant minus AP of the baseline, one per seed.
        mean: of the differences.
        spread: their standard deviation.
        t_interval: 95 % t interval of the mean.
        bca_interval: 95 % bias-corrected and accelerated bootstrap interval of the mean, expanded for few pairs.
        p: exact p-value of the sign-flip test, two-sided.
        p_holm: `p`, corrected for the number of comparisons in the study.
        better: share of the pairs in which the variant is better; an equal pair counts half.
        better_interval: its 95 % interval (Clopper and Pearson).
        verdict: "better", "worse", "equal" or "undecided".
        pairs_needed: number of further pairs after which an undecided comparison is expected to be decided; None for a
            decided one, and for one that needs more than `MAX_PAIRS`.
    """

    differences: tuple[float, ...]
    mean: float
    spread: float
    t_interval: Interval
    bca_interval: Interval
    p: float
    p_holm: float
    better: float
    better_interval: Interval
    verdict: str
    pairs_needed: int | None


def compare(differences: Sequence[Sequence[float]], smallest_effect: float) -> list[Comparison]:
    """Compare each variant of a study with its baseline.

    A variant is "better" or "worse" when Holm's correction of the exact sign-flip test leaves p at 5 % or less. It is
    "equal" when it is neither and the whole t interval is within `smallest_effect` of 0; this is a test of equivalence
    at 2.5 % on each side. It is "undecided" otherwise.

    Args:
        differences: AP of the variant minus AP of the baseline, one row per variant, one column per seed; at least 2.
        smallest_effect: a difference of at most this size counts as equal.

    Source:
        Holm 1979; Schuirmann 1987 (equivalence); Bouthillier et al. 2021, arXiv 2103.03098 (P(better)).

    Example:
        >>> compare([[0.010, 0.012, 0.009, 0.011, 0.013, 0.010]], smallest_effect=0.005)[0].verdict
        'better'
    """
    rows = [np.asarray(row, np.float64) for row in differences]
    if any(row.ndim != 1 or len(row) < 2 or not np.isfinite(row).all() for row in rows):
        raise ValueError("differences: expected rows of at least 2 finite numbers")
    corrected = holm([sign_flip_p(row) for row in rows])
    return [_compare(row, p_holm, smallest_effect, len(rows)) for row, p_holm in zip(rows, corrected, strict=True)]


def _compare(row: np.ndarray, p_holm: float, smallest_effect: float, comparisons: int) -> Comparison:
    interval = t_interval(row)
    mean = float(row.mean())
    if p_holm <= ALPHA:
        verdict = "better" if mean > 0 else "worse"
    elif -smallest_effect <= interval[0] and interval[1] <= smallest_effect:
        verdict = "equal"
    else:
        verdict = "undecided"
    spread = float(row.std(ddof=1))
    wins = float((row > 0).sum() + (row == 0).sum() / 2)
    return Comparison(
        differences=tuple(row.tolist()),
        mean=mean,
        spread=spread,
        t_interval=interval,
        bca_interval=bca_interval(row),
        p=sign_flip_p(row),
        p_holm=p_holm,
        better=wins / len(row),
        better_interval=_share_interval(wins, len(row)),
        verdict=verdict,
        pairs_needed=_further_pairs(mean, spread, smallest_effect, len(row), comparisons)
        if verdict == "undecided"
        else None,
    )


def t_interval(values: np.ndarray) -> Interval:
    """Return the 95 % t interval of the mean of (n,) values, n >= 2."""
    half = _half_width(float(np.std(values, ddof=1)), len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _half_width(spread: float, pairs: int) -> float:
    return float(stats.t.ppf(1 - ALPHA / 2, pairs - 1)) * spread / math.sqrt(pairs)


def bca_interval(values: np.ndarray) -> Interval:
    """Return the 95 % BCa bootstrap interval of the mean of (n,) values, n >= 2, expanded for small n.

    The bootstrap of n values is too narrow by sqrt((n - 1) / n), and by the ratio of the normal to the t quantile. The
    level is raised by both (Hesterberg 2015, "What teachers should know about the bootstrap", section 3.3). The t
    quantile has n - 2 degrees of freedom, one less than for the t interval, as BCa estimates the acceleration as well:
    with n - 1 the interval covers 92.5 % for 6 normal values. Of fewer than 4 values: the t interval.
    """
    n = len(values)
    if n < 4:  # too few different resamples
        return t_interval(values)
    if np.ptp(values) == 0:  # SciPy returns nan
        return float(values[0]), float(values[0])
    quantile = stats.t.ppf(1 - ALPHA / 2, n - 2) * math.sqrt(n / (n - 1))
    level = 1 - 2 * stats.norm.sf(quantile)
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def sign_flip_p(values: np.ndarray) -> float:
    """Return the two-sided p-value of the mean of (n,) values under flips of their signs.

    All 2^n flips are enumerated up to n = 13; beyond that, p comes from 9,999 random ones.
    """
    found = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down correction of p-values, in their order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = largest
    return corrected


def least_pairs(comparisons: int = 1) -> int:
    """Return the number of pairs below which no comparison of a study can be significant.

    The smallest p of the sign-flip test is 2 / 2^n; Holm multiplies the smallest one by the number of comparisons.

    Example:
        >>> [least_pairs(comparisons) for comparisons in (1, 3, 4, 10)]
        [6, 7, 8, 9]
    """
    return math.ceil(1 + math.log2(comparisons / ALPHA) - 1e-12)


def detectable_effect(spread: float, pairs: int) -> float:
    """Return the smallest true difference that a paired t test at 5 % finds in 80 % of studies.

    Args:
        spread: standard deviation of the differences.
        pairs: number of seeds, at least 2.

    Example:
        >>> round(detectable_effect(0.004, 10), 4)
        0.004
    """
    if spread == 0:
        return 0.0
    quantile = stats.t.ppf(1 - ALPHA / 2, pairs - 1)

    def power(effect: float) -> float:
        return float(stats.nct.sf(quantile, pairs - 1, effect * math.sqrt(pairs) / spread))

    low, high = 0.0, spread
    while power(high) < POWER:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle) < POWER else (low, middle)
    return high


def _further_pairs(mean: float, spread: float, smallest_effect: float, pairs: int, comparisons: int) -> int | None:
    """Return how many more pairs decide a comparison whose mean and spread stay as they are."""
    wide = max(abs(mean), smallest_effect - abs(mean))  # 0 is outside the interval, or all of it means "equal"
    for total in range(max(pairs + 1, least_pairs(comparisons)), MAX_PAIRS + 1):
        if _half_width(spread, total) <= wide:
            return total - pairs
    return None


def _share_interval(wins: float, pairs: int) -> Interval:
    """Clopper and Pearson's 95 % interval, also for half wins."""
    low = stats.beta.ppf(ALPHA / 2, wins, pairs - wins + 1) if wins > 0 else 0.0
    high = stats.beta.ppf(1 - ALPHA / 2, wins + 1, pairs - wins) if wins < pairs else 1.0
    return float(low), float(high)
