"""The search: what scikit-learn's own would choose, honestly held out, and cheaper."""

import dataclasses
import threading

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from featx.codes.scaling import CentredRows
from featx.fitting import grid_search as trialling
from featx.fitting import selection as searching
from featx.fitting import single_fit as fitting
from featx.fitting.classifiers import CLASSIFIERS, find_classifiers, penalty_grid
from featx.fitting.grid_search import TriedSetting
from featx.fitting.selection import plan_of, search, train
from featx.fitting.single_fit import Problem, SearchSpace

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
# What featx promises to search, written down a second time.
PLAIN = {
    "logistic": lambda C: LogisticRegression(C=C, max_iter=10_000, tol=1e-6),
    "ridge": lambda C: RidgeClassifier(alpha=1 / C),
    "linear-svm": lambda C: LinearSVC(C=C, dual=False, max_iter=10_000),
}
STEP = 10 ** (1 / 3)


def make_rows(n=64, n_classes=3, width=12, *, strength=0.5, seed=0):
    """Unit rows around class means, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.array([f"class {i % n_classes}" for i in range(n)])
    means = strength * rng.standard_normal((n_classes, width))
    X = means[np.arange(n) % n_classes] + rng.standard_normal((n, width))
    return X / np.linalg.norm(X, axis=1, keepdims=True), y


def make_folds(y, n_folds=4):
    """Four folds of equal size: their shares of right answers add without rounding."""
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(y, y))


def options_of(*names, **keywords):
    return SearchSpace(tuple(CLASSIFIERS[name] for name in names), **keywords)


def search_all(X, y, options, pairs=None):
    """Search with all rows of one matrix."""
    problem = Problem(dict.fromkeys(options.normalise, X), y)
    return search(problem, np.arange(len(y)), make_folds(y) if pairs is None else pairs, options)


def held_out(estimator, X, y, pairs):
    """Decisions of plain scikit-learn, two columns for two classes, in the order of the folds."""
    found = cross_val_predict(estimator, X, y, cv=pairs, method="decision_function")
    found = found if found.ndim == 2 else np.column_stack([-found / 2, found / 2])
    return found[np.concatenate([test for _, test in pairs])]


@pytest.fixture
def tried(monkeypatch):
    """What is fitted and scored during a test, in order: (classifier, value, share)."""
    calls = []
    own = trialling.GridSearch._try

    def spy(self, value, share):
        calls.append((self.kind.name, value, share))
        return own(self, value, share)

    monkeypatch.setattr(trialling.GridSearch, "_try", spy)
    return calls


# the same choice as scikit-learn's


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_given_penalties_equal_a_grid_search(name, n_classes):
    """Among rows in any order: the best value, of equal ones the middle, and its accuracy."""
    X, y = make_rows(80, n_classes)
    rows = np.random.default_rng(1).permutation(80)[:64]
    pairs = make_folds(y[rows])
    problem = Problem({"l2": X}, y)
    choice = search(problem, rows, pairs, options_of(name, penalties=GRID[::-1]))
    parameter = "alpha" if name == "ridge" else "C"
    grid = [1 / C if name == "ridge" else C for C in GRID]
    plain = GridSearchCV(PLAIN[name](1), {parameter: grid}, cv=pairs).fit(X[rows], y[rows])
    scores = plain.cv_results_["mean_test_score"]
    assert scores.min() < scores.max()  # there is something to choose
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
def test_of_equal_penalties_the_middle_wins(name, penalties, middle):
    """Where every value is right on all rows; of two in the middle the stronger."""
    X, y = make_rows(strength=5)
    choice = search_all(X, y, options_of(name, penalties=penalties))
    assert (choice.value, choice.accuracy) == (middle, 1.0)


def test_of_equal_neighbours_most_win():
    """Values of other parameters stand simplest first in the table."""
    X, y = make_rows(strength=5)
    choice = search_all(X, y, options_of("knn"))
    assert (choice.value, choice.accuracy) == (25, 1.0)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", [*PLAIN, "svm-rbf"])
def test_held_out_decisions_are_those_of_scikit_learn(name, n_classes):
    """Those of the value that was chosen, row by row, for the rows of each fold in turn."""
    X, y = make_rows(80, n_classes)
    rows = np.random.default_rng(1).permutation(80)[:64]
    pairs = make_folds(y[rows])
    settings = {"gamma": 0.5} if name == "svm-rbf" else {}
    options = options_of(name, penalties=GRID, settings=settings)
    choice = search(Problem({"l2": X}, y), rows, pairs, options)
    plain = PLAIN.get(name, lambda C: SVC(C=C, gamma=0.5, break_ties=True))(choice.value)
    expected = held_out(plain, X[rows], y[rows], pairs)
    assert choice.rows.tolist() == rows[np.concatenate([b for _, b in pairs])].tolist()
    atol = 1e-3 * np.ptp(expected) if name == "logistic" else 1e-9
    np.testing.assert_allclose(choice.decisions, expected, atol=atol)
    names = np.unique(y)
    right = names[choice.decisions.argmax(axis=1)] == y[choice.rows]
    assert choice.accuracy == np.mean(right)


def test_two_decisions_make_a_logistic_function():
    """Halves with both signs: their softmax is scikit-learn's probability."""
    X, y = make_rows(n_classes=2)
    pairs = make_folds(y)
    choice = search_all(X, y, options_of("logistic", penalties=(3.0,)))
    d = cross_val_predict(PLAIN["logistic"](3.0), X, y, cv=pairs, method="decision_function")
    d = d[choice.rows]
    np.testing.assert_allclose(choice.decisions, np.column_stack([-d / 2, d / 2]), atol=1e-9)
    shares = np.exp(choice.decisions) / np.exp(choice.decisions).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[:, 1], expit(d), atol=1e-9)


def test_a_class_that_a_fold_lacks_is_undecided():
    """-inf in its column for the rows of that fold alone, which are wrong."""
    X, y = make_rows(60, strength=3)
    lacking, rest = np.flatnonzero(y == "class 1"), np.flatnonzero(y != "class 1")
    pairs = [
        (rest[:30], np.concatenate([lacking, rest[30:]])),
        (np.concatenate([lacking, rest[30:]]), rest[:30]),
    ]
    choice = search_all(X, y, options_of("ridge", penalties=(1.0,)), pairs)
    assert choice.decisions.shape == (60, 3)
    assert (choice.decisions[:30, 1] == -np.inf).all()
    assert np.isfinite(choice.decisions[:30, [0, 2]]).all()
    assert np.isfinite(choice.decisions[30:]).all()
    plain = RidgeClassifier().fit(X[pairs[0][0]], y[pairs[0][0]])
    d = plain.decision_function(X[pairs[0][1]])
    np.testing.assert_allclose(choice.decisions[:30, [0, 2]], np.column_stack([-d / 2, d / 2]))
    assert choice.accuracy == pytest.approx(40 / 60)


def test_without_folds_the_default_is_taken():
    """The first classifier and normalisation, with scikit-learn's own penalty."""
    X, y = make_rows(6)
    options = options_of("ridge", "logistic", normalise=("sqrt-l2", "l2"))
    choice = search_all(X, y, options, pairs=[])
    assert (choice.kind.name, choice.normalise, choice.value) == ("ridge", "sqrt-l2", None)
    assert choice.decisions.shape == (0, 3)
    assert (choice.rows.tolist(), choice.tried, choice.converged) == ([], (), True)
    assert np.isnan(choice.accuracy)
    model = train(Problem({"sqrt-l2": X}, y), np.arange(6), choice, options)
    np.testing.assert_array_equal(model.decide(X), RidgeClassifier().fit(X, y).decision_function(X))


@pytest.mark.parametrize("name", PLAIN)
def test_what_was_chosen_is_fitted_on_the_rows_given(name):
    """As plain scikit-learn is, and the model knows the classes of those rows."""
    X, y = make_rows(64)
    rows = np.flatnonzero(y != "class 1")
    problem, options = Problem({"l2": X}, y), options_of(name, penalties=(2.0,))
    choice = search_all(X, y, options)
    model = train(problem, rows, choice, options)
    d = PLAIN[name](2.0).fit(X[rows], y[rows]).decision_function(X)
    assert (model.classes, model.converged) == (("class 0", "class 2"), True)
    np.testing.assert_allclose(model.decide(X), np.column_stack([-d / 2, d / 2]))


def test_a_penalty_in_the_settings_is_not_searched(tried):
    """It is given, and so are other parameters."""
    X, y = make_rows()
    settings = {"alpha": 7.0, "fit_intercept": False}
    choice = search_all(X, y, options_of("ridge", settings=settings))
    assert tried == [("ridge", None, 1.0)]
    expected = held_out(RidgeClassifier(alpha=7, fit_intercept=False), X, y, make_folds(y))
    np.testing.assert_allclose(choice.decisions, expected, atol=1e-12)


def test_a_warm_start_may_be_given():
    """`--set warm_start=False` is a parameter of the estimator as others are."""
    X, y = make_rows()
    plain = search_all(X, y, options_of("logistic", penalties=GRID))
    found = search_all(X, y, options_of("logistic", penalties=GRID, settings={"warm_start": False}))
    assert found.value == plain.value


def test_centred_rows_take_their_mean_from_the_training_part(monkeypatch):
    """Each fit sees its fold's training rows; decisions are those of a pipeline by hand."""
    sizes = []

    class Spy(CentredRows):
        def fit(self, X, y=None):
            sizes.append(len(X))
            return super().fit(X, y)

    monkeypatch.setattr(fitting, "CentredRows", Spy)
    X, y = make_rows()
    X += 1
    options = options_of("ridge", normalise=("centre",), penalties=(2.0,))
    choice = search_all(X, y, options)
    assert sizes[1:] == [48] * 4  # the first is of all rows: their scale, for the grid
    pairs = make_folds(y)
    pipeline = make_pipeline(CentredRows(), RidgeClassifier(alpha=1 / 2))
    expected = held_out(pipeline, X, y, pairs)
    np.testing.assert_allclose(choice.decisions, expected, atol=1e-12)
    model = train(Problem({"centre": X}, y), np.arange(20), choice, options)
    assert sizes[-1] == 20
    expected = pipeline.fit(X[:20], y[:20]).decision_function(X)
    np.testing.assert_allclose(model.decide(X), expected, atol=1e-12)


# coarse, then fine


def test_the_winner_is_no_worse_than_any_decade(tried):
    """Decades first, strongest first; then thirds of a decade on both sides of the best."""
    X, y = make_rows(96, width=30, strength=0.3)
    choice = search_all(X, y, options_of("ridge"))
    decades = penalty_grid(X)[::3]
    values = [value for _, value, _ in tried]
    walked, fine = values[: len(decades)], values[len(decades) :]
    assert walked == decades
    on_decades = [
        search_all(X, y, options_of("ridge", penalties=(value,))).accuracy for value in decades
    ]
    best = int(np.argmax(on_decades))
    assert 0 < best < len(decades) - 1  # inside the grid, which is not extended
    assert fine == pytest.approx([decades[best] * STEP**k for k in (-2, -1, 1, 2)])
    assert choice.accuracy >= max(on_decades)
    assert choice.value in values
    near = [search_all(X, y, options_of("ridge", penalties=(v,))).accuracy for v in fine]
    assert choice.accuracy == max([*on_decades, *near])


def test_without_fine_steps_only_decades_are_tried(tried):
    X, y = make_rows(96, width=30, strength=0.3)
    choice = search_all(X, y, options_of("ridge", is_fine=False))
    assert [value for _, value, _ in tried] == penalty_grid(X)[::3]
    assert choice.value in penalty_grid(X)[::3]


@pytest.mark.parametrize("end", ["strong", "weak"])
def test_a_winner_at_an_end_extends_the_grid(tried, monkeypatch, end):
    """Where the grid lies beside the best, the search goes on to it, by up to three decades."""
    if end == "strong":
        X, y = make_rows(96, width=60, strength=0.3)
    else:  # what tells the classes apart is small beside what does not
        X, y = make_rows(96, width=4, strength=2)
        X *= [0.03, 0.03, 0.03, 0]
        X[:, 3] = np.random.default_rng(1).standard_normal(96)
    grid = [value * (1e4 if end == "strong" else 1e-6) for value in penalty_grid(X)]
    monkeypatch.setattr(fitting, "penalty_grid", lambda X: grid)
    choice = search_all(X, y, options_of("ridge"))
    values = [value for _, value, _ in tried]
    last, out = (grid[0], 0.1) if end == "strong" else (grid[-1], 10)
    at_end = search_all(X, y, options_of("ridge", penalties=(last,)))
    assert choice.accuracy > at_end.accuracy
    assert min(grid[0], grid[-1]) > choice.value or choice.value > max(grid[0], grid[-1])
    assert any(value == pytest.approx(last * out) for value in values)
    # never further than three decades and two thirds
    assert grid[0] * 10**-3.7 < min(values) <= max(values) < grid[-1] * 10**3.7


@pytest.mark.parametrize("name", PLAIN)
def test_the_walk_stops_where_nothing_changes_any_more(tried, name):
    """Rows that strong penalties separate: two decades without gain end it."""
    X, y = make_rows(strength=4)
    decades = penalty_grid(X)[::3]
    right = [search_all(X, y, options_of(name, penalties=(v,))).accuracy == 1 for v in decades]
    first = right.index(True)
    tried.clear()
    search_all(X, y, options_of(name))
    walked = [value for _, value, _ in tried if value in decades]
    assert walked == decades[: len(walked)]
    assert first + 3 <= len(walked) < 8  # of ten


@pytest.mark.parametrize("name", PLAIN)
def test_the_grid_is_not_extended_where_nothing_is_gained(tried, name):
    """Rows that every penalty separates: no decade beyond the grid is tried."""
    X, y = make_rows(strength=4)
    search_all(X, y, options_of(name))
    assert min(value for _, value, _ in tried) > penalty_grid(X)[0] / 9


def test_overlapping_classes_are_walked_to_the_end(tried):
    """A penalty that does not separate the training rows may still gain later."""
    X, y = make_rows(96, width=4, strength=0.3)
    search_all(X, y, options_of("ridge", is_fine=False))
    assert set(penalty_grid(X)[::3]) <= {value for _, value, _ in tried}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_path_decides_as_cold_fits_do(monkeypatch, n_classes):
    """A fit that goes on from a stronger penalty ends where one from nothing ends."""
    starts = []
    own = fitting.fit_classifier

    def spy(*arguments):
        starts.append(arguments[-1])
        return own(*arguments)

    for module in (searching, trialling):
        monkeypatch.setattr(module, "fit_classifier", spy)
    X, y = make_rows(96, n_classes, width=8, strength=0.4)
    path = tuple(penalty_grid(X)[::3])
    warm = options_of("logistic", penalties=path)
    fronts = trialling.PreprocessorCache(Problem({"l2": X}, y), warm)
    trials = trialling.GridSearch(fronts, np.arange(96), make_folds(y), warm.kinds[0], "l2")
    decided = [trials.run(value).decisions for value in path]
    assert [start is None for start in starts] == [True] * 4 + [False] * 4 * 9
    for value, found in zip(path, decided, strict=True):
        cold = held_out(PLAIN["logistic"](value), X, y, make_folds(y))
        np.testing.assert_allclose(found, cold, atol=1e-3 * np.ptp(cold))
    # and the models that it went on from are as they were
    for tried_one, value in zip([trials.run(v) for v in path], path, strict=True):
        assert [model.estimator.C for model in tried_one.models] == [value] * 4


# several classifiers


def rings(n=120, seed=0):
    """A disc, and a ring around it."""
    rng = np.random.default_rng(seed)
    radius = np.where(np.arange(n) % 2, 3.0, 1.0) + 0.2 * rng.standard_normal(n)
    angle = 2 * np.pi * rng.random(n)
    y = np.where(np.arange(n) % 2, "ring", "disc")
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), y


def test_auto_chooses_a_linear_classifier_for_linear_data():
    X, y = make_rows(120, strength=0.8)
    choice = search_all(X, y, SearchSpace(tuple(find_classifiers("auto"))))
    assert choice.kind.is_linear
    assert choice.accuracy > 0.75
    assert {each.kind.name for each in choice.tried} == {
        kind.name for kind in find_classifiers("auto")
    }
    (chosen,) = [each for each in choice.tried if each.kind == choice.kind]
    assert (chosen.value, chosen.accuracy) == (choice.value, choice.accuracy)


def test_auto_chooses_what_looks_at_distances_for_rings():
    X, y = rings()
    choice = search_all(X, y, SearchSpace(tuple(find_classifiers("auto"))))
    assert choice.kind.name in {"svm-rbf", "knn"}
    assert choice.accuracy > 0.95


def tried_of(name, n_right, n_rows=100, value=1.0):
    """What a setting did, by its count of right answers alone."""
    nothing = np.zeros((n_rows, 2))
    return TriedSetting(
        CLASSIFIERS[name], "l2", value, n_right, 1.0, n_rows, nothing, True, False, ()
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"svm-rbf": 90, "ridge": 88, "logistic": 86}, "ridge"),  # a standard error is 3
        ({"svm-rbf": 90, "ridge": 86, "logistic": 86}, "svm-rbf"),
        ({"knn": 90, "ridge": 88, "logistic": 89}, "logistic"),  # the best of the linear ones
        ({"ridge": 88, "logistic": 90, "knn": 80}, "logistic"),  # preferred to no linear one
        ({"knn": 90, "svm-rbf": 91, "ridge": 50}, "svm-rbf"),
        ({"knn": 100, "ridge": 99}, "knn"),  # no error, no doubt
        ({"knn": 90, "centroid": 88}, "centroid"),
    ],
)
def test_a_linear_model_within_a_standard_error_is_preferred(counts, expected):
    found = [tried_of(name, count) for name, count in counts.items()]
    assert searching._prefer_linear(found).kind.name == expected


def test_the_better_half_goes_on_to_more_rows(tried):
    """20 settings on a quarter of the rows, the better 10 on half, the better 5 on all."""
    X, y = make_rows(120, strength=0.4)
    found = {}
    own = trialling.GridSearch.run

    def spy(self, value, share=1.0):
        found[self.kind.name, value, share] = own(self, value, share).n_right
        return own(self, value, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trialling.GridSearch, "run", spy)
        choice = search_all(X, y, options_of("ridge", "linear-svm"))
    of_share = {
        share: [(name, value) for name, value, of in tried if of == share]
        for share in (0.25, 0.5, 1.0)
    }
    decades = penalty_grid(X)[::3]
    assert of_share[0.25] == [(name, v) for name in ("ridge", "linear-svm") for v in decades]
    assert len(of_share[0.5]) == 10
    for share, then in ((0.25, 0.5), (0.5, 1.0)):
        on = set(of_share[then][: len(of_share[share]) // 2])
        out = set(of_share[share]) - on
        worst_on = min(found[*setting, share] for setting in on)
        assert worst_on >= max(found[*setting, share] for setting in out)
    beyond = of_share[1.0][5:]
    assert {name for name, _ in beyond} == {choice.kind.name}
    assert set(beyond).isdisjoint(of_share[1.0][:5])
    assert len(choice.tried) == 2


def test_a_share_holds_every_class(monkeypatch):
    """A quarter of each class's training rows, drawn by the seed, contained in the half."""
    X, y = make_rows(128, 2)
    y[:6] = "rare"
    y[6] = "alone"
    seen = {}
    own = fitting.fit_classifier

    def spy(kind, normalise, X, y, *rest):
        seen.setdefault(len(X), []).append((X.copy(), y.copy()))
        return own(kind, normalise, X, y, *rest)

    for module in (searching, trialling):
        monkeypatch.setattr(module, "fit_classifier", spy)
    pairs = [(np.arange(96), np.arange(96, 128))]
    options = options_of("ridge", "centroid", penalties=(1.0, 10.0))
    search_all(X, y, options, pairs)
    n_quarter, n_half, n_all = sorted(seen)
    counts = {label: int(np.sum(y[:96] == label)) for label in np.unique(y)}
    assert n_quarter == sum(max(1, round(n / 4)) for n in counts.values())
    assert (n_half, n_all) == (sum(max(1, round(n / 2)) for n in counts.values()), 96)
    quarter, half = seen[n_quarter][0], seen[n_half][0]
    assert set(quarter[1]) == set(y)
    assert set(map(tuple, quarter[0])) < set(map(tuple, half[0])) < set(map(tuple, X[:96]))
    seen.clear()
    search_all(X, y, dataclasses.replace(options, seed=1), pairs)
    assert not np.array_equal(seen[n_quarter][0][0], quarter[0])


def test_few_rows_compete_as_a_whole(tried):
    """With fewer than five rows a class in a share, that share is left out."""
    X, y = make_rows(36, strength=1)
    search_all(X, y, options_of("ridge", "centroid", penalties=(1.0, 10.0)))
    assert {share for _, _, share in tried} == {1.0}
    tried.clear()
    X, y = make_rows(48, strength=1)
    search_all(X, y, options_of("ridge", "centroid", penalties=(1.0, 10.0)))
    assert {share for _, _, share in tried} == {0.5, 1.0}


def test_the_same_seed_chooses_the_same():
    X, y = make_rows(120, strength=0.4)
    options = options_of("ridge", "svm-rbf", "knn", "centroid", "sgd", penalties=GRID, seed=3)
    one, other = (search_all(X, y, options) for _ in range(2))
    assert (one.kind, one.value, one.accuracy) == (other.kind, other.value, other.accuracy)
    assert np.array_equal(one.decisions, other.decisions)
    assert [t.n_right for t in one.tried] == [t.n_right for t in other.tried]


def test_the_better_normalisation_is_chosen():
    """Each is a contest of its own, on its own coordinates."""
    good, y = make_rows(96, strength=1.5)
    poor, _ = make_rows(96, strength=0)
    options = options_of("ridge", normalise=("l2", "sqrt-l2"), penalties=(1.0, 10.0))
    choice = search(
        Problem({"l2": poor, "sqrt-l2": good}, y), np.arange(96), make_folds(y), options
    )
    assert choice.normalise == "sqrt-l2"
    assert [each.normalise for each in choice.tried] == ["l2", "sqrt-l2"]
    model = train(Problem({"l2": poor, "sqrt-l2": good}, y), np.arange(96), choice, options)
    expected = RidgeClassifier(alpha=1 / choice.value).fit(good, y).decision_function(good)
    np.testing.assert_allclose(model.decide(good), expected)


# what is said


@pytest.mark.parametrize("name", ["logistic", "linear-svm", "svm-rbf"])
def test_a_solver_that_ends_early_is_told_of_and_not_warned_of(name):
    """scikit-learn's warning, an error in these tests, becomes a fact of the choice."""
    X, y = make_rows(strength=0.3)
    options = options_of(name, penalties=(10.0, 1000.0), settings={"max_iter": 1})
    choice = search_all(X, y, options)
    assert not choice.converged
    assert not train(Problem({"l2": X}, y), np.arange(64), choice, options).converged
    assert search_all(X, y, options_of(name, penalties=(1.0,))).converged


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "svm-rbf", "knn"])
def test_folds_at_once_decide_as_folds_in_a_row(monkeypatch, name):
    """Bit for bit, however many processors there are."""
    X, y = make_rows(96, 3, strength=0.3)
    decided = {}
    for n in (1, 4):
        monkeypatch.setattr(trialling.os, "cpu_count", lambda n=n: n)
        choice = search_all(X, y, options_of(name))
        decided[n] = (choice.value, choice.decisions.tobytes())
    assert decided[1] == decided[4]


def test_a_solver_that_was_asked_for_has_one_thread(monkeypatch):
    """LIBLINEAR's dual solver draws from one generator for all threads."""
    threads = set()
    own = fitting.fit_classifier

    def spy(*arguments):
        threads.add(threading.current_thread().name)
        return own(*arguments)

    for module in (searching, trialling):
        monkeypatch.setattr(module, "fit_classifier", spy)
    monkeypatch.setattr(trialling.os, "cpu_count", lambda: 4)
    X, y = make_rows(96, 3, strength=0.3)
    options = options_of("linear-svm", penalties=(1.0,), settings={"dual": True})
    first, second = (search_all(X, y, options).decisions for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(threads) == 2  # one a search


def test_other_warnings_are_passed_on():
    """What is not about convergence reaches the caller."""

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


def test_the_plan_says_how_they_compete():
    auto = SearchSpace(tuple(find_classifiers("auto")))
    assert plan_of(options_of("ridge"), 350, 7) == ""
    assert plan_of(auto, 20, 7) == "7 classifiers, 48 settings, on 100 % of the rows"
    assert plan_of(dataclasses.replace(auto, normalise=("l2", "centre")), 350, 7) == (
        "7 classifiers, 96 settings, on 25 % of the rows, the better 48 on 50 %, the better 24 on "
        "100 %"
    )


def test_the_plan_counts_given_penalties(tried):
    X, y = make_rows(120)
    options = options_of("ridge", "linear-svm", penalties=(1.0, 10.0, 100.0))
    search_all(X, y, options)
    first = [setting for *setting, share in tried if share == tried[0][-1]]
    plan = plan_of(options, 120, 3)
    assert plan.startswith(f"2 classifiers, {len(first)} settings, on 25 % of the rows")


# honesty


def test_permuted_labels_score_as_chance():
    """Chosen by a whole search on one part, labels that mean nothing are guessed on the other."""
    X, _ = make_rows(144, width=6)
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = [f"class {i % 3}" for i in range(60)], [f"class {i % 3}" for i in range(84)]
        y = np.concatenate([rng.permutation(part) for part in labels])
        problem, options, rows = Problem({"l2": X}, y), options_of("ridge"), np.arange(60)
        choice = search(problem, rows, make_folds(y[:60]), options)
        model = train(problem, rows, choice, options)
        predicted = np.array(model.classes)[model.decide(X[60:]).argmax(axis=1)]
        shares.append(np.mean(predicted == y[60:]))
    error = np.sqrt(1 / 3 * 2 / 3 / (20 * 84))
    assert np.mean(shares) == pytest.approx(1 / 3, abs=3 * error)
