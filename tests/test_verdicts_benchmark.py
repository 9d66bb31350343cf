"""What a sweep concludes where there is nothing to find; benchmarks/verdicts.py has more cases."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def verdicts():
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        import verdicts
    finally:
        sys.path.pop(0)
    return verdicts


def test_five_equal_layers_are_rarely_different(verdicts):
    """At most 4 % of cases; without the adjustment there are more, so the test can fail."""
    case = verdicts.Case(n_images=200, group_size=10, in_common=0.5)
    different, unadjusted = np.mean(list(verdicts.equal_layers(case, 100)), axis=0)
    assert different <= 0.04
    assert unadjusted > different


@pytest.mark.slow
@pytest.mark.parametrize("clf", ["logistic", "ridge"])
def test_the_nested_score_of_permuted_labels_is_at_chance(verdicts, clf):
    """Within three standard errors; the best layer is above it."""
    case = verdicts.Case(n_images=60, n_classes=3)
    found = [
        [each.correct.mean() for each in pair]
        for pair in verdicts.permuted_labels(case, 20, clf, n_layers=3)
    ]
    best, nested = np.mean(found, axis=0)
    error = np.std([each for _, each in found], ddof=1) / np.sqrt(len(found))
    assert abs(nested - 1 / 3) < 3 * error
    assert best > nested
