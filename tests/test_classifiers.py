"""The table of classifiers: rotation invariance, and the settings that break it."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from featx.errors import OptionError
from featx.fitting.calibration import decision_scores
from featx.fitting.classifiers import (
    CLASSIFIERS,
    check_settings,
    find_classifiers,
    penalty_grid,
    read_settings,
)

pytestmark = pytest.mark.usefixtures("one_thread")

INVARIANT = ("logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid")
# Each setting of `axis_dependent`, with further settings that it requires.
AXIS_DEPENDENT = [
    ("logistic", "l1_ratio", 1, {"solver": "saga", "C": 3.0}),
    ("logistic", "l1_ratio", 0.5, {"solver": "saga", "C": 3.0}),
    ("logistic", "penalty", "l1", {"solver": "liblinear", "C": 3.0}),
    ("logistic", "penalty", "elasticnet", {"solver": "saga", "C": 3.0}),
    ("ridge", "positive", True, {}),
    ("linear-svm", "penalty", "l1", {"C": 3.0}),
    ("svm-rbf", "gamma", "scale", {}),
    ("svm-rbf", "gamma", "auto", {}),
]


def make_rows(n=60, n_classes=3, width=10, seed=0):
    """Return rows whose columns have different spreads, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.array([f"class {i % n_classes}" for i in range(n)])
    X = 0.5 * rng.standard_normal((n_classes, width))[np.arange(n) % n_classes]
    return (X + rng.standard_normal((n, width))) * np.linspace(0.1, 1, width), y


def scores_of(name, X, y, further, **settings):
    """Return the decision scores of further rows, for an estimator as the search makes it."""
    kind = CLASSIFIERS[name]
    estimator = kind.make(0).set_params(**{**kind.data_parameters(X), **settings})
    return decision_scores(estimator.fit(X, y), further)


def check_refused(name, settings, *, on_gram, match) -> None:
    with pytest.raises(OptionError, match=match):
        check_settings(CLASSIFIERS[name], settings, on_gram=on_gram)


# the table


def test_facts_of_the_table():
    facts = {
        "invariant": lambda kind: kind.is_rotation_invariant,
        "linear": lambda kind: kind.is_linear,
        "penalty": lambda kind: kind.has_penalty,
        "sgd": lambda kind: kind.supports_sgd,
        "auto": lambda kind: kind.in_auto,
        "rows": lambda kind: kind.needs_training_rows,
    }
    linear = {"logistic", "ridge", "linear-svm"}
    assert {f: {n for n, k in CLASSIFIERS.items() if is_so(k)} for f, is_so in facts.items()} == {
        "invariant": set(INVARIANT),
        "linear": {*linear, "centroid", "lda", "sgd", "logistic-l1"},
        "penalty": {*linear, "svm-rbf", "sgd", "logistic-l1"},
        "sgd": {*linear, "sgd"},
        "auto": {*INVARIANT, "lda"},
        "rows": {"svm-rbf", "knn"},
    }
    assert [name for name, kind in CLASSIFIERS.items() if kind.warm_starts] == ["logistic"]


def test_the_table_agrees_with_the_estimators():
    """Parameters, class weights and seeds are those of the estimators."""
    for name, kind in CLASSIFIERS.items():
        parameters = kind.make(7).get_params()
        assert kind.name == name
        assert kind.parameter is None or kind.parameter in parameters
        assert set(kind.axis_dependent) <= set(parameters)
        if name in {"sgd", "logistic-l1", "hist-gradient-boosting"}:
            assert parameters["random_state"] == 7
        if kind.warm_starts:
            assert "warm_start" in parameters
        assert not (
            kind.in_auto and kind.is_rotation_invariant and kind.supports_sgd and not kind.is_linear
        )


def test_classifiers_without_class_weights():
    """The estimators of the others have the parameter class_weight."""
    without = {name for name, kind in CLASSIFIERS.items() if not kind.has_class_weight}
    assert without == {"knn", "centroid", "lda"}


def test_penalties_are_converted_to_the_parameter():
    """The parameter is C, or an equally strong penalty."""
    assert CLASSIFIERS["logistic"].to_parameter(4.0, 10) == 4
    assert CLASSIFIERS["ridge"].to_parameter(4.0, 10) == 0.25
    assert CLASSIFIERS["sgd"].to_parameter(4.0, 10) == 1 / 40
    assert CLASSIFIERS["knn"].values == (25, 15, 9, 5, 3, 1)


def test_names_are_found():
    assert find_classifiers("ridge") == [CLASSIFIERS["ridge"]]
    assert [kind.name for kind in find_classifiers("auto")] == [*INVARIANT, "lda"]
    with pytest.raises(OptionError, match=r"'svm' .*--clf.*'svm-rbf'.*logistic, ridge.*auto"):
        find_classifiers("svm")


# rotations


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", INVARIANT)
def test_scores_are_invariant_to_rotations(name, n_classes):
    """Training rows and further rows are rotated alike."""
    X, y = make_rows(n_classes=n_classes)
    further, _ = make_rows(seed=1)
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    one, other = scores_of(name, X, y, further), scores_of(name, X @ Q, y, further @ Q)
    atol = 1e-4 if name in {"logistic", "linear-svm"} else 1e-8
    np.testing.assert_allclose(other, one, atol=atol, rtol=0)
    assert np.ptp(one) > 0.1


@pytest.mark.parametrize(("name", "parameter", "value", "beside"), AXIS_DEPENDENT)
@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:Inconsistent values:UserWarning")
def test_axis_dependent_settings_are_refused_on_gram(name, parameter, value, beside):
    """They do depend on the axes, and are accepted elsewhere."""
    X, y = make_rows(n_classes=2)
    if value == "scale":
        X += 1  # a mean is rotated too, and changes the variance that "scale" uses
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    settings = {**beside, parameter: value}
    fitted = {**settings, "l1_ratio": 0.5} if value == "elasticnet" else settings
    if value == "auto":  # 1 / number of columns, which the Gram coordinates change
        narrow = np.column_stack([X, np.zeros((len(X), 5))])
        one, other = (
            scores_of(name, X, y, X, **fitted),
            scores_of(name, narrow, y, narrow, **fitted),
        )
    else:
        one, other = scores_of(name, X, y, X, **fitted), scores_of(name, X @ Q, y, X @ Q, **fitted)
    assert np.abs(other - one).max() > 1e-2 * np.ptp(one)
    check_refused(name, settings, on_gram=True, match=f"--set {parameter}={value}.*{name}.*primal")
    check_settings(CLASSIFIERS[name], settings, on_gram=False)


def test_every_axis_dependent_setting_is_tested():
    """Each entry of the table has a case above; other kernels are refused."""
    listed = {(name, p) for name, kind in CLASSIFIERS.items() for p in kind.axis_dependent}
    assert listed - {(name, p) for name, p, *_ in AXIS_DEPENDENT} == {("svm-rbf", "kernel")}
    match = "--set kernel=precomputed.*svm-rbf"
    check_refused("svm-rbf", {"kernel": "precomputed"}, on_gram=True, match=match)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("logistic", {"C": 3, "fit_intercept": False, "class_weight": "balanced", "l1_ratio": 0}),
        ("logistic", {"solver": "newton-cg"}),
        ("ridge", {"positive": False, "alpha": 2, "solver": "svd"}),
        ("linear-svm", {"loss": "squared_hinge", "penalty": "l2", "intercept_scaling": 3}),
        ("svm-rbf", {"gamma": 0.3, "kernel": "poly", "degree": 2}),
        ("svm-rbf", {"gamma": 0.3, "kernel": "sigmoid"}),
        ("svm-rbf", {"kernel": "linear", "gamma": 1}),
        ("knn", {"weights": "distance"}),
    ],
)
def test_accepted_settings_are_rotation_invariant(name, settings):
    X, y = make_rows()
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    check_settings(CLASSIFIERS[name], settings, on_gram=True)
    one, other = scores_of(name, X, y, X, **settings), scores_of(name, X @ Q, y, X @ Q, **settings)
    np.testing.assert_allclose(other, one, atol=1e-4 * np.ptp(one))


@pytest.mark.parametrize("on_gram", [True, False])
def test_unknown_parameters_are_refused(on_gram):
    match = "knn.*'C'.*--set.*n_neighbors, weights"
    check_refused("knn", {"weights": "distance", "C": 3}, on_gram=on_gram, match=match)


# scale


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_gamma_is_one_over_the_mean_squared_distance(scale):
    """The mean is over pairs of different rows, of any scale and mean."""
    X = scale * (3 + make_rows()[0])
    expected = 1 / np.mean(pdist(X, "sqeuclidean"))
    assert CLASSIFIERS["svm-rbf"].data_parameters(X) == {"gamma": pytest.approx(expected, rel=1e-9)}
    assert CLASSIFIERS["ridge"].data_parameters(X) == {}


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1])
def test_equal_rows_have_no_scale(value):
    assert CLASSIFIERS["svm-rbf"].data_parameters(np.full((7, 3), value)) == {"gamma": 1.0}
    assert CLASSIFIERS["svm-rbf"].data_parameters(np.full((1, 3), value)) == {"gamma": 1.0}


def test_the_grid_follows_the_mean_squared_length():
    """Penalties are equally strong for rows of any length; rows of zeros have no scale."""
    X, _ = make_rows()
    grid = penalty_grid(X)
    mean = np.mean(np.linalg.norm(X, axis=1) ** 2)
    assert grid == pytest.approx(np.logspace(-3, 6, 28) / mean, rel=1e-12)
    assert penalty_grid(10 * X) == pytest.approx(np.array(grid) / 100, rel=1e-12)
    assert penalty_grid(np.zeros((3, 2))) == pytest.approx(np.logspace(-3, 6, 28), rel=1e-12)
    assert all(type(value) is float for value in grid)


# parsing --set


def test_settings_are_parsed():
    texts = ["C=10", "tol=1e-3", "solver=newton-cg", "fit_intercept=False", "a=", "b=None", "c='1'"]
    assert read_settings(texts) == {
        "C": 10,
        "tol": 1e-3,
        "solver": "newton-cg",
        "fit_intercept": False,
        "a": "",
        "b": None,
        "c": "1",
    }
    assert read_settings([]) == {}
    assert read_settings(["C=1", "C=2", "a=b=c"]) == {"C": 2, "a": "b=c"}


@pytest.mark.parametrize("text", ["C", "=3", "", "C:3"])
def test_texts_of_another_form_are_refused(text):
    with pytest.raises(OptionError, match=f"--set {text}.*NAME=VALUE"):
        read_settings([text])
