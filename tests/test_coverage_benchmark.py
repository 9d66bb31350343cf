"""benchmarks/coverage.py simulates what it says, on a few replicates."""

import importlib.util
import sys

import numpy as np
import pytest
from sklearn import metrics
from transcripts import ROOT


@pytest.fixture(scope="module")
def simulation():
    # The tool that measures the coverage of tests has the name of the file.
    spec = importlib.util.spec_from_file_location("simulation", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["fixed", "folds"])
def test_intervals_of_simulated_scores_contain_the_truth(simulation, kind):
    """Of 20 replicates with 20 groups, most intervals of every score contain it."""
    cell = simulation.Cell("", (5,) * 20, (0.5, 0.5), 0.5)
    replicate = getattr(simulation, kind)(cell, np.random.default_rng(0))
    coverage, ratio = simulation.measure(replicate, 20)
    assert set(coverage) == set(ratio) == set(simulation.NAMES)
    for name in simulation.NAMES:
        assert coverage[name] >= 0.8, name
        assert 0.5 < ratio[name] < 3, name


def test_the_true_scores_are_those_of_scikit_learn(simulation):
    """They are computed in another way than the scores that are compared with them."""
    random = np.random.default_rng(0)
    y, p, other = random.integers(3, size=90), *random.dirichlet(np.ones(3), (2, 90))
    predicted = p.argmax(axis=1)
    assert simulation.true_scores(y, p, other) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
            "macro_f1": metrics.f1_score(y, predicted, average="macro"),
            "log_loss": metrics.log_loss(y, p),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=False),
            "difference": np.mean(predicted == y) - np.mean(other.argmax(axis=1) == y),
        }
    )
