"""Grid search: the values that are tried, and the same choice as scikit-learn's."""

import dataclasses
import threading

import numpy as np
import pytest
from fits import CoupledSVC
from scipy.special import expit
from searches import (
    GRID,
    PLAIN,
    held_out,
    make_folds,
    make_rows,
    record_tried,
    search_all,
    space_of,
)
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from featx.codes.scaling import CentredRows
from featx.fitting import grid_search, selection
from featx.fitting.classifiers import CLASSIFIERS, penalty_grid
from featx.fitting.grid_search import Problem, SearchData, SearchSpace
from featx.fitting.selection import fit_choice, search

pytestmark = pytest.mark.usefixtures("one_thread")

STEP = 10 ** (1 / 3)


@pytest.fixture
def tried(monkeypatch):
    """Return a list of the settings that are tried during the test."""
    return record_tried(monkeypatch)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_given_penalties_are_searched_as_by_scikit_learn(name, n_classes):
    """The middle one of equally good values is chosen; rows may be in any order."""
    X, y = make_rows(80, n_classes)
    rows = np.random.default_rng(1).permutation(80)[:64]
    pairs = make_folds(y[rows])
    problem = Problem({"l2": X}, y)
    choice = search(problem, rows, pairs, space_of(name, penalties=GRID[::-1]))
    parameter = "alpha" if name == "ridge" else "C"
    grid = [1 / C if name == "ridge" else C for C in GRID]
    plain = GridSearchCV(PLAIN[name](1), {parameter: grid}, cv=pairs).fit(X[rows], y[rows])
    scores = plain.cv_results_["mean_test_score"]
    assert scores.min() < scores.max()
    equal = np.flatnonzero(scores == scores.max())
    assert choice.value == GRID[equal[(len(equal) - 1) // 2]]
    assert choice.accuracy == plain.best_score_ == np.max(scores)
    assert (choice.kind.name, choice.normalise, choice.converged) == (name, "l2", True)
    assert [each.value for each in choice.tried] == [choice.value]


@pytest.mark.parametrize(
    ("penalties", "middle"),
    [((100.0, 1.0, 10.0), 10.0), ((1000.0, 1.0, 10.0, 100.0), 10.0), ((5.0, 50.0), 5.0)],
)
@pytest.mark.parametrize("name", PLAIN)
def test_the_middle_of_equally_good_penalties_is_chosen(name, penalties, middle):
    """Of two in the middle, the stronger one is chosen."""
    X, y = make_rows(strength=5)
    choice = search_all(X, y, space_of(name, penalties=penalties))
    assert (choice.value, choice.accuracy) == (middle, 1.0)


def test_the_most_neighbours_of_equally_good_values_are_chosen():
    """Values in the table of classifiers are in order, simplest model first."""
    X, y = make_rows(strength=5)
    choice = search_all(X, y, space_of("knn"))
    assert (choice.value, choice.accuracy) == (25, 1.0)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", [*PLAIN, "svm-rbf"])
def test_held_out_decision_scores_are_those_of_scikit_learn(name, n_classes):
    """They are those of the chosen value, fold after fold."""
    X, y = make_rows(80, n_classes)
    rows = np.random.default_rng(1).permutation(80)[:64]
    pairs = make_folds(y[rows])
    settings = {"gamma": 0.5} if name == "svm-rbf" else {}
    space = space_of(name, penalties=GRID, settings=settings)
    choice = search(Problem({"l2": X}, y), rows, pairs, space)
    plain = PLAIN.get(name, lambda C: CoupledSVC(C=C, gamma=0.5))(choice.value)
    expected = held_out(plain, X[rows], y[rows], pairs)
    assert choice.rows.tolist() == rows[np.concatenate([b for _, b in pairs])].tolist()
    atol = 1e-3 * np.ptp(expected) if name == "logistic" else 1e-9
    np.testing.assert_allclose(choice.decision_scores, expected, atol=atol)
    names = np.unique(y)
    correct = names[choice.decision_scores.argmax(axis=1)] == y[choice.rows]
    assert choice.accuracy == np.mean(correct)


def test_the_softmax_of_two_decision_scores_is_the_logistic_function():
    X, y = make_rows(n_classes=2)
    pairs = make_folds(y)
    choice = search_all(X, y, space_of("logistic", penalties=(3.0,)))
    d = cross_val_predict(PLAIN["logistic"](3.0), X, y, cv=pairs, method="decision_function")
    d = d[choice.rows]
    np.testing.assert_allclose(choice.decision_scores, np.column_stack([-d / 2, d / 2]), atol=1e-9)
    probabilities = np.exp(choice.decision_scores) / np.exp(choice.decision_scores).sum(
        axis=1, keepdims=True
    )
    np.testing.assert_allclose(probabilities[:, 1], expit(d), atol=1e-9)


def test_a_class_that_a_training_set_lacks_has_a_score_of_minus_infinity():
    """This holds for the held-out rows of that fold alone."""
    X, y = make_rows(60, strength=3)
    lacking, rest = np.flatnonzero(y == "class 1"), np.flatnonzero(y != "class 1")
    pairs = [
        (rest[:30], np.concatenate([lacking, rest[30:]])),
        (np.concatenate([lacking, rest[30:]]), rest[:30]),
    ]
    choice = search_all(X, y, space_of("ridge", penalties=(1.0,)), pairs)
    assert choice.decision_scores.shape == (60, 3)
    assert (choice.decision_scores[:30, 1] == -np.inf).all()
    assert np.isfinite(choice.decision_scores[:30, [0, 2]]).all()
    assert np.isfinite(choice.decision_scores[30:]).all()
    plain = RidgeClassifier().fit(X[pairs[0][0]], y[pairs[0][0]])
    d = plain.decision_function(X[pairs[0][1]])
    np.testing.assert_allclose(
        choice.decision_scores[:30, [0, 2]], np.column_stack([-d / 2, d / 2])
    )
    assert choice.accuracy == pytest.approx(40 / 60)


def test_a_given_parameter_is_not_searched(tried):
    X, y = make_rows()
    settings = {"alpha": 7.0, "fit_intercept": False}
    choice = search_all(X, y, space_of("ridge", settings=settings))
    assert tried == [("ridge", None, 1.0)]
    expected = held_out(RidgeClassifier(alpha=7, fit_intercept=False), X, y, make_folds(y))
    np.testing.assert_allclose(choice.decision_scores, expected, atol=1e-12)


def test_a_given_warm_start_does_not_change_the_choice():
    X, y = make_rows()
    plain = search_all(X, y, space_of("logistic", penalties=GRID))
    found = search_all(X, y, space_of("logistic", penalties=GRID, settings={"warm_start": False}))
    assert found.value == plain.value


def test_the_mean_of_centred_rows_is_that_of_the_training_rows(monkeypatch):
    """Decision scores are those of a pipeline of scikit-learn."""
    sizes = []

    class Spy(CentredRows):
        def fit(self, X, y=None):
            sizes.append(len(X))
            return super().fit(X, y)

    monkeypatch.setattr(grid_search, "CentredRows", Spy)
    X, y = make_rows()
    X += 1
    space = space_of("ridge", normalise=("centre",), penalties=(2.0,))
    choice = search_all(X, y, space)
    assert sizes[1:] == [48] * 4  # the first fit is for the scale of the grid
    pairs = make_folds(y)
    pipeline = make_pipeline(CentredRows(), RidgeClassifier(alpha=1 / 2))
    expected = held_out(pipeline, X, y, pairs)
    np.testing.assert_allclose(choice.decision_scores, expected, atol=1e-12)
    model = fit_choice(Problem({"centre": X}, y), np.arange(20), choice, space)
    assert sizes[-1] == 20
    expected = pipeline.fit(X[:20], y[:20]).decision_function(X)
    np.testing.assert_allclose(model.decision_scores(X), expected, atol=1e-12)


def test_the_search_tries_decades_and_then_finer_steps(tried):
    """The best value is no worse than any of them."""
    X, y = make_rows(96, width=30, strength=0.3)
    choice = search_all(X, y, space_of("ridge"))
    decades = penalty_grid(X)[::3]
    values = [value for _, value, _ in tried]
    decades_tried, fine = values[: len(decades)], values[len(decades) :]
    assert decades_tried == decades
    on_decades = [
        search_all(X, y, space_of("ridge", penalties=(value,))).accuracy for value in decades
    ]
    best = int(np.argmax(on_decades))
    assert 0 < best < len(decades) - 1  # not at an end of the grid
    assert fine == pytest.approx([decades[best] * STEP**k for k in (-2, -1, 1, 2)])
    assert choice.accuracy >= max(on_decades)
    assert choice.value in values
    near = [search_all(X, y, space_of("ridge", penalties=(v,))).accuracy for v in fine]
    assert choice.accuracy == max([*on_decades, *near])


def test_without_fine_steps_only_decades_are_tried(tried):
    X, y = make_rows(96, width=30, strength=0.3)
    choice = search_all(X, y, space_of("ridge", is_fine=False))
    assert [value for _, value, _ in tried] == penalty_grid(X)[::3]
    assert choice.value in penalty_grid(X)[::3]


@pytest.mark.parametrize("end", ["strong", "weak"])
def test_the_grid_is_extended_if_the_best_value_is_at_an_end(tried, monkeypatch, end):
    """By at most three decades."""
    if end == "strong":
        X, y = make_rows(96, width=60, strength=0.3)
    else:  # the features that separate the classes are small
        X, y = make_rows(96, width=4, strength=2)
        X *= [0.03, 0.03, 0.03, 0]
        X[:, 3] = np.random.default_rng(1).standard_normal(96)
    grid = [value * (1e4 if end == "strong" else 1e-6) for value in penalty_grid(X)]
    monkeypatch.setattr(grid_search, "penalty_grid", lambda X: grid)
    choice = search_all(X, y, space_of("ridge"))
    values = [value for _, value, _ in tried]
    last, out = (grid[0], 0.1) if end == "strong" else (grid[-1], 10)
    at_end = search_all(X, y, space_of("ridge", penalties=(last,)))
    assert choice.accuracy > at_end.accuracy
    assert min(grid[0], grid[-1]) > choice.value or choice.value > max(grid[0], grid[-1])
    assert any(value == pytest.approx(last * out) for value in values)
    # at most three decades and two thirds
    assert grid[0] * 10**-3.7 < min(values) <= max(values) < grid[-1] * 10**3.7


@pytest.mark.parametrize("name", PLAIN)
def test_the_search_of_decades_stops_if_weaker_penalties_change_nothing(tried, name):
    """The search ends after two decades without a better accuracy."""
    X, y = make_rows(strength=4)
    decades = penalty_grid(X)[::3]
    correct = [search_all(X, y, space_of(name, penalties=(v,))).accuracy == 1 for v in decades]
    first = correct.index(True)
    tried.clear()
    search_all(X, y, space_of(name))
    decades_tried = [value for _, value, _ in tried if value in decades]
    assert decades_tried == decades[: len(decades_tried)]
    assert first + 3 <= len(decades_tried) < 8  # of ten


@pytest.mark.parametrize("name", PLAIN)
def test_the_grid_is_not_extended_if_all_penalties_are_equally_good(tried, name):
    X, y = make_rows(strength=4)
    search_all(X, y, space_of(name))
    assert min(value for _, value, _ in tried) > penalty_grid(X)[0] / 9


def test_all_decades_are_tried_if_classes_overlap(tried):
    """A weaker penalty may still be better."""
    X, y = make_rows(96, width=4, strength=0.3)
    search_all(X, y, space_of("ridge", is_fine=False))
    assert set(penalty_grid(X)[::3]) <= {value for _, value, _ in tried}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_warm_starts_end_where_cold_fits_end(monkeypatch, n_classes):
    """A fit may start at the coefficients of the next stronger penalty."""
    starts = []
    own = grid_search.fit_classifier

    def spy(*arguments):
        starts.append(arguments[-1])
        return own(*arguments)

    for module in (selection, grid_search):
        monkeypatch.setattr(module, "fit_classifier", spy)
    X, y = make_rows(96, n_classes, width=8, strength=0.4)
    path = tuple(penalty_grid(X)[::3])
    warm = space_of("logistic", penalties=path)
    data = SearchData(Problem({"l2": X}, y), np.arange(96), make_folds(y), warm)
    grid = grid_search.GridSearch(data, warm.kinds[0], "l2")
    scores = [grid.run(value).decision_scores for value in path]
    assert [start is None for start in starts] == [True] * 4 + [False] * 4 * 9
    for value, found in zip(path, scores, strict=True):
        cold = held_out(PLAIN["logistic"](value), X, y, make_folds(y))
        np.testing.assert_allclose(found, cold, atol=1e-3 * np.ptp(cold))
    # The models that fits started from are unchanged.
    for tried_one, value in zip([grid.run(v) for v in path], path, strict=True):
        assert [model.estimator.C for model in tried_one.models] == [value] * 4


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "svm-rbf", "knn"])
def test_the_number_of_threads_changes_no_bit(monkeypatch, name):
    X, y = make_rows(96, 3, strength=0.3)
    scores = {}
    for n in (1, 4):
        monkeypatch.setattr(grid_search.os, "cpu_count", lambda n=n: n)
        choice = search_all(X, y, space_of(name))
        scores[n] = (choice.value, choice.decision_scores.tobytes())
    assert scores[1] == scores[4]


def test_a_given_solver_is_fitted_in_one_thread(monkeypatch):
    """The dual solver of LIBLINEAR has one random generator for all threads."""
    threads = set()
    own = grid_search.fit_classifier

    def spy(*arguments):
        threads.add(threading.current_thread().name)
        return own(*arguments)

    for module in (selection, grid_search):
        monkeypatch.setattr(module, "fit_classifier", spy)
    monkeypatch.setattr(grid_search.os, "cpu_count", lambda: 4)
    X, y = make_rows(96, 3, strength=0.3)
    space = space_of("linear-svm", penalties=(1.0,), settings={"dual": True})
    first, second = (search_all(X, y, space).decision_scores for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(threads) == 2  # one for each search


@pytest.mark.parametrize("name", ["logistic", "linear-svm", "svm-rbf"])
def test_a_fit_that_does_not_converge_is_recorded_without_a_warning(name):
    X, y = make_rows(strength=0.3)
    space = space_of(name, penalties=(10.0, 1000.0), settings={"max_iter": 1})
    choice = search_all(X, y, space)
    assert not choice.converged
    assert not fit_choice(Problem({"l2": X}, y), np.arange(64), choice, space).converged
    assert search_all(X, y, space_of(name, penalties=(1.0,))).converged


def test_other_warnings_reach_the_caller():

    class Noisy(RidgeClassifier):
        def fit(self, X, y):
            import warnings

            warnings.warn("a word", UserWarning, stacklevel=2)
            return super().fit(X, y)

    kind = dataclasses.replace(CLASSIFIERS["ridge"], make=lambda seed: Noisy())
    X, y = make_rows()
    with pytest.warns(UserWarning, match="^a word$"):
        choice = search_all(X, y, SearchSpace((kind,), penalties=(1.0,)))
    assert choice.converged
