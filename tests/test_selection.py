"""Selection: the choice among several classifiers and normalisations."""

import dataclasses

import numpy as np
import pytest
from searches import GRID, PLAIN, make_folds, make_rows, record_tried, search_all, space_of
from sklearn.linear_model import RidgeClassifier

from featx.errors import FitError
from featx.fitting import fit, grid_search, prepare_fit, selection
from featx.fitting.classifiers import CLASSIFIERS, find_classifiers, penalty_grid
from featx.fitting.grid_search import Problem, SearchSpace, TriedSetting
from featx.fitting.selection import fit_choice, plan_of, search

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tried(monkeypatch):
    """Return a list of the settings that are tried during the test."""
    return record_tried(monkeypatch)


def rings(n=120, seed=0):
    """Return points of a disc and of a ring around it."""
    rng = np.random.default_rng(seed)
    radius = np.where(np.arange(n) % 2, 3.0, 1.0) + 0.2 * rng.standard_normal(n)
    angle = 2 * np.pi * rng.random(n)
    y = np.where(np.arange(n) % 2, "ring", "disc")
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), y


def tried_of(name, n_correct, n_rows=100, value=1.0):
    """Return a setting with a number of correct predictions."""
    nothing = np.zeros((n_rows, 2))
    return TriedSetting(CLASSIFIERS[name], "l2", value, n_correct, 1.0, nothing)


def test_the_defaults_are_used_without_folds():
    """They are the first classifier and normalisation, with the penalty of scikit-learn."""
    X, y = make_rows(6)
    space = space_of("ridge", "logistic", normalise=("sqrt-l2", "l2"))
    choice = search_all(X, y, space, pairs=[])
    assert (choice.kind.name, choice.normalise, choice.value) == ("ridge", "sqrt-l2", None)
    assert choice.decision_scores.shape == (0, 3)
    assert (choice.rows.tolist(), choice.tried, choice.converged) == ([], (), True)
    assert np.isnan(choice.accuracy)
    model = fit_choice(Problem({"sqrt-l2": X}, y), np.arange(6), choice, space)
    np.testing.assert_array_equal(
        model.decision_scores(X), RidgeClassifier().fit(X, y).decision_function(X)
    )


@pytest.mark.parametrize("name", PLAIN)
def test_the_choice_is_fitted_on_the_given_rows(name):
    """The classifier knows the classes of these rows alone."""
    X, y = make_rows(64)
    rows = np.flatnonzero(y != "class 1")
    problem, space = Problem({"l2": X}, y), space_of(name, penalties=(2.0,))
    choice = search_all(X, y, space)
    model = fit_choice(problem, rows, choice, space)
    d = PLAIN[name](2.0).fit(X[rows], y[rows]).decision_function(X)
    assert (model.classes, model.converged) == (("class 0", "class 2"), True)
    np.testing.assert_allclose(model.decision_scores(X), np.column_stack([-d / 2, d / 2]))


def test_auto_chooses_a_linear_classifier_for_separable_classes():
    X, y = make_rows(90, strength=0.9)
    choice = search_all(X, y, SearchSpace(tuple(find_classifiers("auto"))))
    assert choice.kind.is_linear
    assert choice.accuracy > 0.75
    assert {each.kind.name for each in choice.tried} == {
        kind.name for kind in find_classifiers("auto")
    }
    (chosen,) = [each for each in choice.tried if each.kind == choice.kind]
    assert (chosen.value, chosen.accuracy) == (choice.value, choice.accuracy)


def test_auto_chooses_a_classifier_of_distances_for_rings():
    X, y = rings()
    choice = search_all(X, y, SearchSpace(tuple(find_classifiers("auto"))))
    assert choice.kind.name in {"svm-rbf", "knn"}
    assert choice.accuracy > 0.95


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"svm-rbf": 90, "ridge": 88, "logistic": 86}, "ridge"),  # the standard error is 3
        ({"svm-rbf": 90, "ridge": 86, "logistic": 86}, "svm-rbf"),
        ({"knn": 90, "ridge": 88, "logistic": 89}, "logistic"),  # the best of the linear ones
        (
            {"ridge": 88, "logistic": 90, "knn": 80},
            "logistic",
        ),  # one linear classifier is not preferred to another
        ({"knn": 90, "svm-rbf": 91, "ridge": 50}, "svm-rbf"),
        ({"knn": 100, "ridge": 99}, "knn"),  # the standard error is 0
        ({"knn": 90, "centroid": 88}, "centroid"),
    ],
)
def test_a_linear_classifier_within_one_standard_error_is_preferred(counts, expected):
    found = [tried_of(name, count) for name, count in counts.items()]
    assert selection._prefer_linear(found).kind.name == expected


def test_the_better_half_of_the_settings_is_tried_on_more_rows(tried):
    """20 settings on a quarter of the rows, the better 10 on half, the better 5 on all."""
    X, y = make_rows(120, strength=0.4)
    found = {}
    own = grid_search.GridSearch.run

    def spy(self, value, fraction=1.0):
        found[self.kind.name, value, fraction] = own(self, value, fraction).n_correct
        return own(self, value, fraction)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_search.GridSearch, "run", spy)
        choice = search_all(X, y, space_of("ridge", "linear-svm"))
    of_fraction = {
        fraction: [(name, value) for name, value, of in tried if of == fraction]
        for fraction in (0.25, 0.5, 1.0)
    }
    decades = penalty_grid(X)[::3]
    assert of_fraction[0.25] == [(name, v) for name in ("ridge", "linear-svm") for v in decades]
    assert len(of_fraction[0.5]) == 10
    for fraction, then in ((0.25, 0.5), (0.5, 1.0)):
        on = set(of_fraction[then][: len(of_fraction[fraction]) // 2])
        out = set(of_fraction[fraction]) - on
        worst_on = min(found[*setting, fraction] for setting in on)
        assert worst_on >= max(found[*setting, fraction] for setting in out)
    beyond = of_fraction[1.0][5:]
    assert {name for name, _ in beyond} == {choice.kind.name}
    assert set(beyond).isdisjoint(of_fraction[1.0][:5])
    assert len(choice.tried) == 2


def test_a_fraction_of_the_rows_has_every_class(monkeypatch):
    """The quarter of each class is drawn with the seed, and is part of the half."""
    X, y = make_rows(128, 2)
    y[:6] = "rare"
    y[6] = "alone"
    seen = {}
    own = grid_search.fit_classifier

    def spy(kind, normalise, X, y, *rest):
        seen.setdefault(len(X), []).append((X.copy(), y.copy()))
        return own(kind, normalise, X, y, *rest)

    for module in (selection, grid_search):
        monkeypatch.setattr(module, "fit_classifier", spy)
    pairs = [(np.arange(96), np.arange(96, 128))]
    space = space_of("ridge", "centroid", penalties=(1.0, 10.0))
    search_all(X, y, space, pairs)
    n_quarter, n_half, n_all = sorted(seen)
    counts = {label: int(np.sum(y[:96] == label)) for label in np.unique(y)}
    assert n_quarter == sum(max(1, round(n / 4)) for n in counts.values())
    assert (n_half, n_all) == (sum(max(1, round(n / 2)) for n in counts.values()), 96)
    quarter, half = seen[n_quarter][0], seen[n_half][0]
    assert set(quarter[1]) == set(y)
    assert set(map(tuple, quarter[0])) < set(map(tuple, half[0])) < set(map(tuple, X[:96]))
    seen.clear()
    search_all(X, y, dataclasses.replace(space, seed=1), pairs)
    assert not np.array_equal(seen[n_quarter][0][0], quarter[0])


def test_a_fraction_with_few_rows_is_skipped(tried):
    """It needs five rows per class."""
    X, y = make_rows(36, strength=1)
    search_all(X, y, space_of("ridge", "centroid", penalties=(1.0, 10.0)))
    assert {fraction for _, _, fraction in tried} == {1.0}
    tried.clear()
    X, y = make_rows(48, strength=1)
    search_all(X, y, space_of("ridge", "centroid", penalties=(1.0, 10.0)))
    assert {fraction for _, _, fraction in tried} == {0.5, 1.0}


def test_the_same_seed_gives_the_same_choice():
    X, y = make_rows(120, strength=0.4)
    space = space_of("ridge", "knn", "sgd", penalties=GRID, seed=3)
    one, other = (search_all(X, y, space) for _ in range(2))
    assert (one.kind, one.value, one.accuracy) == (other.kind, other.value, other.accuracy)
    assert np.array_equal(one.decision_scores, other.decision_scores)
    assert [t.n_correct for t in one.tried] == [t.n_correct for t in other.tried]


def test_the_better_normalisation_is_chosen():
    """Each normalisation has its own coordinates."""
    good, y = make_rows(96, strength=1.5)
    poor, _ = make_rows(96, strength=0)
    space = space_of("ridge", normalise=("l2", "sqrt-l2"), penalties=(1.0, 10.0))
    choice = search(Problem({"l2": poor, "sqrt-l2": good}, y), np.arange(96), make_folds(y), space)
    assert choice.normalise == "sqrt-l2"
    assert [each.normalise for each in choice.tried] == ["l2", "sqrt-l2"]
    model = fit_choice(Problem({"l2": poor, "sqrt-l2": good}, y), np.arange(96), choice, space)
    expected = RidgeClassifier(alpha=1 / choice.value).fit(good, y).decision_function(good)
    np.testing.assert_allclose(model.decision_scores(good), expected)


def test_the_plan_has_the_numbers_of_classifiers_and_settings():
    auto = SearchSpace(tuple(find_classifiers("auto")))
    assert plan_of(space_of("ridge"), 350, 7) == ""
    assert plan_of(auto, 20, 7) == "7 classifiers, 48 settings, on 100 % of the rows"
    assert plan_of(dataclasses.replace(auto, normalise=("l2", "centre")), 350, 7) == (
        "7 classifiers, 96 settings, on 25 % of the rows, the better 48 on 50 %, the better 24 on "
        "100 %"
    )


def test_the_plan_counts_given_penalties(tried):
    X, y = make_rows(120)
    space = space_of("ridge", "linear-svm", penalties=(1.0, 10.0, 100.0))
    search_all(X, y, space)
    first = [setting for *setting, fraction in tried if fraction == tried[0][-1]]
    plan = plan_of(space, 120, 3)
    assert plan.startswith(f"2 classifiers, {len(first)} settings, on 25 % of the rows")


def test_permuted_labels_are_predicted_at_chance():
    """The settings are searched on some rows, and other rows are predicted."""
    X, _ = make_rows(144, width=6)
    accuracies = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = [f"class {i % 3}" for i in range(60)], [f"class {i % 3}" for i in range(84)]
        y = np.concatenate([rng.permutation(part) for part in labels])
        problem, space, rows = (
            Problem({"l2": X}, y),
            space_of("ridge", is_fine=False),
            np.arange(60),
        )
        choice = search(problem, rows, make_folds(y[:60]), space)
        model = fit_choice(problem, rows, choice, space)
        predicted = np.array(model.classes)[model.decision_scores(X[60:]).argmax(axis=1)]
        accuracies.append(np.mean(predicted == y[60:]))
    error = np.sqrt(1 / 3 * 2 / 3 / (10 * 84))
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=3 * error)


# candidates that cannot be fitted


class Broken(RidgeClassifier):
    """A classifier that cannot be fitted with a strong penalty, or on many rows."""

    def __init__(self, alpha=1.0, most_rows=10_000, random_state=None):
        super().__init__(alpha=alpha, random_state=random_state)
        self.most_rows = most_rows

    def fit(self, X, y):
        if self.alpha > 1:
            message = "the penalty is too strong"
            raise ValueError(message)
        if len(X) > self.most_rows:
            message = "there are too many rows"
            raise ZeroDivisionError(message)
        return super().fit(X, y)


def broken(**parameters):
    """Return ridge regression by the name of "broken", with these parameters."""
    return dataclasses.replace(
        CLASSIFIERS["ridge"], name="broken", make=lambda seed: Broken(**parameters)
    )


def test_a_classifier_that_cannot_be_fitted_is_left_out():
    """One image a class is too few for lda, whatever the normalisation; the note says so."""
    X, y = make_rows(6)
    space = space_of("lda", "ridge", "knn", normalise=("l2", "centre"))
    choice = search_all(X, y, space, make_folds(y, 2))
    assert choice.kind.name != "lda"
    assert {each.kind.name for each in choice.tried} == {"ridge", "knn"}
    (note,) = choice.notes
    assert note.startswith("lda was left out")
    assert "number of samples must be more" in note


def test_penalties_that_cannot_be_fitted_are_left_out():
    """The others are searched, alone and with another classifier."""
    X, y = make_rows()
    for others in ((), (CLASSIFIERS["centroid"],)):
        space = SearchSpace((broken(), *others), penalties=(0.01, 0.1, 2.0, 20.0))
        choice = search_all(X, y, space)
        (found,) = [each for each in choice.tried if each.kind.name == "broken"]
        assert found.value in {2.0, 20.0}
        (note,) = choice.notes
        assert note.startswith("broken with C = 0.01, 0.1 was left out")
        assert "the penalty is too strong" in note
    plain = search_all(X, y, space_of("ridge", penalties=(2.0, 20.0)))
    choice = search_all(X, y, SearchSpace((broken(),), penalties=(0.01, 0.1, 2.0, 20.0)))
    assert (choice.value, choice.n_correct) == (plain.value, plain.n_correct)
    assert search_all(X, y, SearchSpace((broken(),))).value >= 1  # in the grid


def test_scores_that_are_not_finite_are_no_fit(monkeypatch):
    """A solver that returns NaN is left out, as if it had raised an error."""

    def scores(self, X):
        return np.full((len(X), 3), np.nan)

    monkeypatch.setattr(RidgeClassifier, "decision_function", scores)
    X, y = make_rows()
    choice = search_all(X, y, space_of("ridge", "centroid"))
    assert choice.kind.name == "centroid"
    assert "not finite" in choice.notes[0]
    with pytest.raises(FitError, match="ridge"):
        search_all(X, y, space_of("ridge"))


def test_an_error_lists_all_classifiers_if_none_can_be_fitted():
    X, y = make_rows(6)
    space = SearchSpace((CLASSIFIERS["lda"], broken(most_rows=2)))
    with pytest.raises(FitError) as caught:
        search_all(X, y, space, make_folds(y, 2))
    for fact in ("lda", "broken", "number of samples", "too many rows"):
        assert fact in str(caught.value)


def test_a_classifier_that_fails_on_more_rows_is_left_out_then():
    """The better half fails on all rows, so the other half is tried on them."""
    rng = np.random.default_rng(0)
    y = np.array(["a", "b"] * 80)
    # The means are blurred by a large feature, which a linear classifier ignores.
    X = np.column_stack([y == "b", 30 * rng.standard_normal(160)])
    kinds = (broken(most_rows=60), CLASSIFIERS["centroid"])
    choice = search_all(X, y, SearchSpace(kinds, penalties=(2.0, 4.0, 8.0)))
    assert (choice.kind.name, choice.fraction) == ("centroid", 1.0)
    assert "too many rows" in choice.notes[0]


def test_a_classifier_that_fails_on_the_training_set_is_left_out(store_of):
    """It can be fitted in each fold of the search, but not on all rows."""
    labels = [f"class {i % 3}" for i in range(60)]
    path = store_of(labels)
    job = prepare_fit(path, clf="ridge", C=[2.0, 4.0])
    X, y = make_rows(60, strength=2)
    kinds = (broken(most_rows=50), CLASSIFIERS["centroid"])
    job = dataclasses.replace(job, y=y, space=dataclasses.replace(job.space, kinds=kinds))
    found = selection.select_classifier(Problem({"l2": X}, y), job, job.split)
    assert found.choice.kind.name == "centroid"
    assert "broken was left out" in found.notes[0]
    alone = dataclasses.replace(job, space=dataclasses.replace(job.space, kinds=kinds[:1]))
    with pytest.raises(FitError, match="too many rows"):
        selection.select_classifier(Problem({"l2": X}, y), alone, job.split)


@pytest.mark.parametrize(
    ("n_classes", "n_images", "grouped"),
    [
        *[(2, 2, False), (2, 3, False), (3, 3, False), (5, 2, False), (3, 5, True)],
        pytest.param(10, 2, False, marks=pytest.mark.slow),
        pytest.param(10, 4, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("normalise", ["l2", pytest.param("auto", marks=pytest.mark.slow)])
def test_auto_fits_few_images(store_of, n_classes, n_images, grouped, normalise):
    """Each fold leaves out what it cannot fit, and the notes name lda if all folds do."""
    n = n_classes * n_images
    labels = [f"class {i % n_classes}" for i in range(n)]
    groups = [f"{i % n_classes}-{i // (2 * n_classes)}" for i in range(n)] if grouped else None
    path = store_of(labels, groups=groups)
    found = fit(path, clf="auto", normalise=normalise, baselines=False, repeats=1)
    np.testing.assert_allclose(found.evaluation.n_images, n)
    left_out = [note for note in found.notes if "lda" in note and "was left out" in note]
    # Two folds of two or three images leave one image a class in the search.
    assert bool(left_out) == (n_images <= 3), found.notes
