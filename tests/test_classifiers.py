"""The table of classifiers: what is blind to rotations, what breaks that, and refusals."""

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

EXACT = ("logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid")
# Each setting of `breaks`, with what the estimator needs beside it.
BREAKING = [
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
    """Rows whose columns have other spreads, so that axes are not alike."""
    rng = np.random.default_rng(seed)
    y = np.array([f"class {i % n_classes}" for i in range(n)])
    X = 0.5 * rng.standard_normal((n_classes, width))[np.arange(n) % n_classes]
    return (X + rng.standard_normal((n, width))) * np.linspace(0.1, 1, width), y


def decided(name, X, y, further, **settings):
    """Decisions about further rows, of an estimator as the search makes it."""
    kind = CLASSIFIERS[name]
    estimator = kind.make(0).set_params(**{**kind.data_parameters(X), **settings})
    return decision_scores(estimator.fit(X, y), further)


def refusal(name, settings, *, on_gram=False) -> str:
    with pytest.raises(OptionError) as caught:
        check_settings(CLASSIFIERS[name], settings, on_gram=on_gram)
    return str(caught.value)


# the table


def test_the_table_says_what_each_is():
    """Facts that the rest of the package relies on."""
    facts = {
        "exact": lambda kind: kind.is_rotation_invariant,
        "linear": lambda kind: kind.is_linear,
        "penalty": lambda kind: kind.has_penalty,
        "streams": lambda kind: kind.supports_sgd,
        "auto": lambda kind: kind.in_auto,
        "rows": lambda kind: kind.needs_training_rows,
    }
    linear = {"logistic", "ridge", "linear-svm"}
    assert {f: {n for n, k in CLASSIFIERS.items() if is_so(k)} for f, is_so in facts.items()} == {
        "exact": set(EXACT),
        "linear": {*linear, "centroid", "lda", "sgd", "logistic-l1"},
        "penalty": {*linear, "svm-rbf", "sgd", "logistic-l1"},
        "streams": {*linear, "sgd"},
        "auto": {*EXACT, "lda"},
        "rows": {"svm-rbf", "knn"},
    }
    assert [name for name, kind in CLASSIFIERS.items() if kind.warm_starts] == ["logistic"]


def test_the_table_is_true_of_the_estimators():
    """Each has its parameter; only those said to can weight classes; seeds are passed on."""
    for name, kind in CLASSIFIERS.items():
        parameters = kind.make(7).get_params()
        assert kind.name == name
        assert kind.parameter is None or kind.parameter in parameters
        assert kind.has_class_weight == ("class_weight" in parameters)
        assert set(kind.axis_dependent) <= set(parameters)
        if name in {"sgd", "logistic-l1", "hist-gradient-boosting"}:
            assert parameters["random_state"] == 7
        if kind.warm_starts:
            assert "warm_start" in parameters
        assert not (
            kind.in_auto and kind.is_rotation_invariant and kind.supports_sgd and not kind.is_linear
        )


def test_penalties_become_the_parameter_of_the_estimator():
    """C itself, or what is as strong."""
    assert CLASSIFIERS["logistic"].to_parameter(4.0, 10) == 4
    assert CLASSIFIERS["ridge"].to_parameter(4.0, 10) == 0.25
    assert CLASSIFIERS["sgd"].to_parameter(4.0, 10) == 1 / 40
    assert CLASSIFIERS["knn"].values == (25, 15, 9, 5, 3, 1)


def test_names_are_found():
    assert find_classifiers("ridge") == [CLASSIFIERS["ridge"]]
    assert [kind.name for kind in find_classifiers("auto")] == [*EXACT, "lda"]
    with pytest.raises(OptionError) as caught:
        find_classifiers("svm")
    assert str(caught.value) == (
        "No classifier 'svm'. Did you mean 'svm-rbf'? Use --clf with one of logistic, ridge, "
        "linear-svm, svm-rbf, knn, "
        "centroid, lda, sgd, logistic-l1, hist-gradient-boosting, auto."
    )


# rotations


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_exact_classifiers_are_blind_to_rotations(name, n_classes):
    """Rows that are turned, those of the fit and further ones, are decided on as before."""
    X, y = make_rows(n_classes=n_classes)
    further, _ = make_rows(seed=1)
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    one, other = decided(name, X, y, further), decided(name, X @ Q, y, further @ Q)
    atol = 1e-4 if name in {"logistic", "linear-svm"} else 1e-8
    np.testing.assert_allclose(other, one, atol=atol, rtol=0)
    assert np.ptp(one) > 0.1


@pytest.mark.parametrize(("name", "parameter", "value", "beside"), BREAKING)
@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:Inconsistent values:UserWarning")
def test_settings_that_look_at_axes_are_refused_on_the_span(name, parameter, value, beside):
    """They really do, and are refused there alone."""
    X, y = make_rows(n_classes=2)
    if value == "scale":
        X += 1  # a mean, which turns with the axes: scale looks at the variance of all numbers
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    settings = {**beside, parameter: value}
    fitted = {**settings, "l1_ratio": 0.5} if value == "elasticnet" else settings
    if value == "auto":  # 1 / columns: the span has others
        narrow = np.column_stack([X, np.zeros((len(X), 5))])
        one, other = decided(name, X, y, X, **fitted), decided(name, narrow, y, narrow, **fitted)
    else:
        one, other = decided(name, X, y, X, **fitted), decided(name, X @ Q, y, X @ Q, **fitted)
    assert np.abs(other - one).max() > 1e-2 * np.ptp(one)
    assert refusal(name, settings, on_gram=True) == (
        f"--set {parameter}={value} makes {name} depend on the axes of the codes, which the exact "
        "span turns. Leave it out, or use --road primal on narrow codes (--pool avg)."
    )
    check_settings(CLASSIFIERS[name], settings, on_gram=False)


def test_every_breaking_setting_is_tried():
    """No entry of the table is without its case above; unknown kernels are refused by name."""
    listed = {(name, p) for name, kind in CLASSIFIERS.items() for p in kind.axis_dependent}
    assert listed - {(name, p) for name, p, *_ in BREAKING} == {("svm-rbf", "kernel")}
    assert refusal("svm-rbf", {"kernel": "precomputed"}, on_gram=True).startswith(
        "--set kernel=precomputed makes svm-rbf depend on the axes of the codes"
    )


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
def test_settings_that_are_allowed_are_blind_to_rotations(name, settings):
    X, y = make_rows()
    Q = ortho_group.rvs(10, random_state=np.random.default_rng(2))
    check_settings(CLASSIFIERS[name], settings, on_gram=True)
    one, other = decided(name, X, y, X, **settings), decided(name, X @ Q, y, X @ Q, **settings)
    np.testing.assert_allclose(other, one, atol=1e-4 * np.ptp(one))


@pytest.mark.parametrize("on_gram", [True, False])
def test_unknown_parameters_are_refused(on_gram):
    assert refusal("knn", {"weights": "distance", "C": 3}, on_gram=on_gram) == (
        "knn has no parameter 'C'. Expected --set with one of n_neighbors, weights."
    )


# scale


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_gamma_is_one_over_the_mean_squared_distance(scale):
    """Of different rows, each pair once; whatever their scale and their mean."""
    X = scale * (3 + make_rows()[0])
    expected = 1 / np.mean(pdist(X, "sqeuclidean"))
    assert CLASSIFIERS["svm-rbf"].data_parameters(X) == {"gamma": pytest.approx(expected, rel=1e-9)}
    assert CLASSIFIERS["ridge"].data_parameters(X) == {}


@pytest.mark.parametrize("value", [0.0, 0.5, 0.1])
def test_equal_rows_have_no_scale(value):
    assert CLASSIFIERS["svm-rbf"].data_parameters(np.full((7, 3), value)) == {"gamma": 1.0}
    assert CLASSIFIERS["svm-rbf"].data_parameters(np.full((1, 3), value)) == {"gamma": 1.0}


def test_the_grid_follows_the_mean_squared_length():
    """What is as strong on rows of another length; rows of zeros have no scale."""
    X, _ = make_rows()
    grid = penalty_grid(X)
    mean = np.mean(np.linalg.norm(X, axis=1) ** 2)
    assert grid == pytest.approx(np.logspace(-3, 6, 28) / mean, rel=1e-12)
    assert penalty_grid(10 * X) == pytest.approx(np.array(grid) / 100, rel=1e-12)
    assert penalty_grid(np.zeros((3, 2))) == pytest.approx(np.logspace(-3, 6, 28), rel=1e-12)
    assert all(type(value) is float for value in grid)


# texts


def test_settings_are_read():
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
    with pytest.raises(OptionError) as caught:
        read_settings([text])
    assert str(caught.value) == (
        f"Cannot read --set {text}. Expected --set NAME=VALUE, as in --set C=10."
    )
