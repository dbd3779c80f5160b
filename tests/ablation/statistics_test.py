"""The statistics of a study, against SciPy, formulas by hand and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from scipy import stats

from kyolo.ablation import statistics
from kyolo.ablation.statistics import compare, detectable_effect, holm, least_pairs

STUDIES = 2000


def normal(random, shape):
    return random.normal(0, 1, shape)


def skewed(random, shape):
    """Mean 0, standard deviation 1, skewness -1.4: now and then a training that goes wrong."""
    return (2 - random.gamma(2, 1, shape)) / math.sqrt(2)


class IntervalTest(parameterized.TestCase):
    @parameterized.parameters(2, 3, 6, 10, 20)
    def test_t(self, n):
        values = np.random.default_rng(n).normal(0.01, 0.004, n)
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose(statistics.t_interval(values), expected, rtol=1e-12)

    @parameterized.parameters(6, 10, 20)
    def test_bca(self, n):
        """SciPy's, from other random numbers, at the expanded level by hand from a table of t quantiles."""
        values = np.random.default_rng(n).gamma(2, 0.004, n)
        quantile = {6: 2.7764, 10: 2.3060, 20: 2.1009}[n] * math.sqrt(n / (n - 1))
        found = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=1 - 2 * stats.norm.sf(quantile),
            n_resamples=9999,
            method="BCa",
            rng=np.random.default_rng(5),
        ).confidence_interval
        low, high = statistics.bca_interval(values)
        width = found.high - found.low
        self.assertAlmostEqual(low, found.low, delta=0.05 * width)
        self.assertAlmostEqual(high, found.high, delta=0.05 * width)

    def test_bca_of_few_values_is_the_t_interval(self):
        for values in ([0.1, 0.2], [0.1, 0.2, 0.4]):
            self.assertEqual(statistics.bca_interval(np.array(values)), statistics.t_interval(np.array(values)))

    def test_equal_values_have_an_interval_without_width(self):
        values = np.full(6, 0.25)
        self.assertEqual(statistics.bca_interval(values), (0.25, 0.25))
        self.assertEqual(statistics.t_interval(values), (0.25, 0.25))


class SignFlipTest(parameterized.TestCase):
    @parameterized.parameters(2, 5, 6, 10)
    def test_equals_the_enumeration(self, n):
        values = np.random.default_rng(n).normal(0.5, 1, n)
        means = [abs(np.mean(values * signs)) for signs in itertools.product((1, -1), repeat=n)]
        expected = np.mean([mean >= abs(values.mean()) - 1e-12 for mean in means])
        self.assertAlmostEqual(statistics.sign_flip_p(values), expected, places=12)

    @parameterized.parameters((5, 0.0625), (6, 0.03125), (8, 0.0078125), (10, 0.001953125))
    def test_the_smallest_p(self, n, expected):
        self.assertEqual(statistics.sign_flip_p(np.arange(1.0, n + 1)), expected)


class HolmTest(absltest.TestCase):
    def test_by_hand(self):
        # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before.
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
        self.assertEqual(holm([0.9, 0.8]), [1.0, 1.0])

    def test_fewest_pairs(self):
        # The smallest p, 2 / 2^n, must be at most 0.05 / comparisons.
        self.assertEqual([least_pairs(k) for k in (1, 2, 3, 4, 6, 7, 12, 13)], [6, 7, 7, 8, 8, 9, 9, 10])


class VerdictTest(parameterized.TestCase):
    @parameterized.parameters(
        ([0.010, 0.012, 0.009, 0.011, 0.013, 0.010], "better"),
        ([-0.010, -0.012, -0.009, -0.011, -0.013, -0.010], "worse"),
        ([0.010, 0.012, 0.009, 0.011, 0.013], "undecided"),  # five pairs cannot tell
        ([0.001, -0.001, 0.002, -0.002, 0.001, -0.001], "equal"),
        ([0.010, -0.012, 0.009, -0.011, 0.013, -0.010], "undecided"),
        ([0.0] * 6, "equal"),
    )
    def test_by_hand(self, differences, verdict):
        (found,) = compare([differences], 0.005)
        self.assertEqual(found.verdict, verdict)
        self.assertEqual(found.pairs_needed is None, verdict != "undecided")

    def test_more_comparisons_need_more_evidence(self):
        clear, noise = [0.010, 0.012, 0.009, 0.011, 0.013, 0.010], [0.010, -0.012, 0.009, -0.011, 0.013, -0.010]
        self.assertEqual(compare([clear], 0.005)[0].verdict, "better")
        found = compare([clear, noise], 0.005)[0]
        self.assertEqual((found.p, found.p_holm, found.verdict), (0.03125, 0.0625, "undecided"))

    def test_pairs_that_are_still_needed(self):
        # Mean 0.002, spread 0.010: the half-width t 0.010 / sqrt(n) falls to 0.003 = 0.005 - 0.002 at n = 46.
        row = np.array([-0.008, 0.012] * 5, float)
        row = 0.002 + (row - row.mean()) * 0.010 / row.std(ddof=1)
        (found,) = compare([row], 0.005)
        expected = next(n for n in range(10, 99) if stats.t.ppf(0.975, n - 1) * 0.010 / math.sqrt(n) <= 0.003)
        self.assertEqual((found.verdict, found.pairs_needed), ("undecided", expected - 10))

    def test_share_of_better_pairs(self):
        (found,) = compare([[1, 2, 3, -1, 0, 2]], 0.5)
        self.assertEqual(found.better, 4.5 / 6)
        whole = compare([[1, 2, 3, -1, -1, 2]], 0.5)[0]
        expected = stats.binomtest(4, 6).proportion_ci(0.95)
        np.testing.assert_allclose(whole.better_interval, (expected.low, expected.high))

    @parameterized.parameters(([[0.1]],), ([[0.1, float("nan")]],))
    def test_too_little(self, differences):
        with self.assertRaisesRegex(ValueError, "differences: expected rows of at least 2 finite numbers"):
            compare(differences, 0.005)


@pytest.mark.slow
class SimulationTest(parameterized.TestCase):
    """Both runs of a pair have this noise, so that the differences are symmetric, but not normal."""

    def differences(self, noise, n, effect=0.0):
        random = np.random.default_rng(n)
        return effect + noise(random, (STUDIES, n)) - noise(random, (STUDIES, n))

    @parameterized.product(noise=(normal, skewed), n=(6, 10), effect=(0.0, 1.5))
    def test_intervals_cover(self, noise, n, effect):
        rows = self.differences(noise, n, effect)
        for interval in (statistics.t_interval, statistics.bca_interval):
            bounds = np.array([interval(row) for row in rows])
            covered = np.mean((bounds[:, 0] <= effect) & (effect <= bounds[:, 1]))
            self.assertBetween(covered, 0.93, 0.97, msg=interval.__name__)

    @parameterized.parameters(6, 10)
    def test_the_limit_is_noise_of_one_variant_only(self, n):
        """Differences that are skewed themselves: the intervals cover less, as docs/ablation.md says."""
        rows = skewed(np.random.default_rng(n), (STUDIES, n))
        for interval in (statistics.t_interval, statistics.bca_interval):
            bounds = np.array([interval(row) for row in rows])
            covered = np.mean((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0))
            self.assertBetween(covered, 0.89, 0.95, msg=interval.__name__)

    @parameterized.product(noise=(normal, skewed), n=(6, 10))
    def test_no_effect_is_seldom_found(self, noise, n):
        verdicts = [compare([row], 0.1)[0].verdict for row in self.differences(noise, n)]
        self.assertLessEqual(np.mean([verdict in ("better", "worse") for verdict in verdicts]), 0.06)

    @parameterized.product(noise=(normal, skewed), n=(6, 10))
    def test_equal_is_seldom_wrong(self, noise, n):
        """The true difference is exactly the smallest that counts."""
        verdicts = [compare([row], 2.0)[0].verdict for row in self.differences(noise, n, effect=2.0)]
        self.assertLessEqual(np.mean([verdict == "equal" for verdict in verdicts]), 0.05)

    def test_detectable_effect(self):
        effect = detectable_effect(1.0, 10)
        random = np.random.default_rng(0)
        found = stats.ttest_1samp(random.normal(effect, 1, (20000, 10)), 0, axis=1).pvalue <= 0.05
        self.assertAlmostEqual(found.mean(), 0.8, delta=0.01)


if __name__ == "__main__":
    absltest.main()
