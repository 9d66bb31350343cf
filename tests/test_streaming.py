"""The streamed road: near the exact answer, a block at a time, the same bits."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from featx.codes.matrix import CodeMatrix
from featx.errors import FitError, OptionError, StoreError
from featx.fitting import sgd as streaming
from featx.fitting import sgd_epochs as descent
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.sgd import fit_streamed
from featx.fitting.single_fit import SearchSpace

pytestmark = pytest.mark.usefixtures("one_thread")


def make_codes(n: int, k: int = 3, *, d: int = 60, noise: float = 1.2, seed: int = 0):
    """Codes as after a ReLU, float16, and their labels, sorted by class."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99)
    middles, turn = truth.standard_normal((k, 8)), truth.standard_normal((8, d))
    classes = np.sort(rng.integers(0, k, n))
    hidden = middles[classes] + noise * rng.standard_normal((n, 8))
    return np.maximum(hidden @ turn, 0).astype(np.float16), np.array([f"c{c}" for c in classes])


def run(X, y, *, clf="logistic", normalise="l2", calibration="temperature", groups=None, **options):
    """Fit on an array; an option is one of `SearchSpace`."""
    groups = np.arange(len(y)) if groups is None else groups
    codes = CodeMatrix([X], np.arange(len(X)))
    return fit_streamed(
        codes, y, groups, SearchSpace((CLASSIFIERS[clf],), **options), normalise, calibration
    )


def unit(X):
    """Rows of unit length, by scikit-learn."""
    return Normalizer().fit_transform(X.astype(np.float64))


# accuracy


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("clf", "exact"),
    [
        ("logistic", LogisticRegression(C=10, max_iter=2000)),
        ("sgd", LogisticRegression(C=10, max_iter=2000)),
        ("linear-svm", LinearSVC(C=1, dual=False)),
        ("ridge", RidgeClassifier(alpha=1)),
    ],
)
def test_streamed_is_near_the_exact_answer(clf, exact, n_classes):
    """On float16 codes that lie sorted by class, in blocks of 40 rows."""
    X, y = make_codes(600, n_classes)
    others, truth = make_codes(600, n_classes, seed=1)
    found = run(X, y, clf=clf)
    expected = exact.fit(unit(X), y).score(unit(others), truth)
    assert 0.75 < expected < 0.995
    assert found.pipeline.score(others, truth) > expected - 0.03
    assert (found.kind.name, found.n_held_out) == (clf, 60)


@pytest.mark.parametrize("normalise", ["l2", "sqrt-l2", "none"])
@pytest.mark.parametrize("clf", ["logistic", "ridge"])
def test_every_normalisation_takes_codes_of_any_scale(clf, normalise):
    X, y = make_codes(400)
    found = run(300 * X.astype(np.float32), y, clf=clf, normalise=normalise)
    others, truth = make_codes(400, seed=1)
    assert found.pipeline.score(300 * others.astype(np.float32), truth) > 0.75
    assert [name for name, _ in found.pipeline.steps] == (
        ["unit"] * (normalise != "none") + ["decisions", "calibration"]
    )


def test_layers_are_joined_each_at_unit_length():
    X, y = make_codes(300)
    layers = CodeMatrix([X[:, :20], 1000 * X[:, 20:].astype(np.float32)], np.arange(300))
    options = SearchSpace((CLASSIFIERS["logistic"],), penalties=(10.0,))
    found = fit_streamed(layers, y, np.arange(300), options, "l2", "none")
    assert found.pipeline[0].widths == (20, 40)
    assert found.pipeline.score(layers.block(np.arange(300)), y) > 0.8


def test_permuted_labels_give_chance():
    X, y = make_codes(600)
    found = run(X, np.random.default_rng(3).permutation(y), penalties=(1.0, 100.0))
    others, truth = make_codes(600, seed=1)
    assert found.pipeline.score(others, truth) < 0.5


def test_probabilities_are_calibrated_on_the_held_out_part():
    """A temperature, not 1, whose log loss on new codes is better than without."""
    X, y = make_codes(600)
    others, truth = make_codes(600, seed=1)
    own = np.searchsorted(np.unique(y), truth)
    losses = {}
    for method in ("temperature", "none"):
        found = run(X, y, calibration=method, penalties=(0.1,))
        shares = found.pipeline.predict_proba(others)
        assert np.allclose(shares.sum(axis=1), 1)
        losses[method] = -np.mean(np.log(shares[np.arange(600), own]))
    assert losses["temperature"] < losses["none"] - 0.02


def test_balanced_weights_help_the_rare_class():
    X, y = make_codes(900, 2)
    kept = np.r_[np.flatnonzero(y == "c0"), np.flatnonzero(y == "c1")[:30]]
    others, truth = make_codes(900, 2, seed=1)
    recalls = []
    for weight in (None, "balanced"):
        found = run(X[kept], y[kept], penalties=(1.0,), settings={"class_weight": weight})
        recalls.append(np.mean(found.pipeline.predict(others[truth == "c1"]) == "c1"))
    assert recalls[1] > recalls[0] + 0.2


# blocks, parts and seeds


def test_no_more_than_a_block_is_read_and_in_the_order_of_the_disk(monkeypatch):
    X, y = make_codes(300)
    monkeypatch.setattr(descent, "_BLOCK_BYTES", 7 * 8 * X.shape[1])
    read = []
    original = CodeMatrix.block

    def block(self, positions):
        read.append(np.array(positions))
        return original(self, positions)

    monkeypatch.setattr(CodeMatrix, "block", block)
    found = run(X, y, penalties=(1.0, 10.0), settings={"max_iter": 3})
    assert max(map(len, read)) == 7
    assert all((np.diff(positions) > 0).all() for positions in read)
    # Of each epoch every row once, for both models together; and the held-out part once more.
    assert np.sum([len(positions) for positions in read]) == 3 * 300 + found.n_held_out
    assert found.n_epochs == 3
    first = np.concatenate(read[:20])
    assert len(np.unique(y[first])) == 3
    assert len(np.unique(first)) == len(first)


def test_a_group_is_never_on_both_sides(monkeypatch):
    X, y = make_codes(300)
    groups = np.arange(300) // 4
    sides = []
    original = streaming._hold_out

    def spy(*given):
        sides.append(original(*given))
        return sides[-1]

    monkeypatch.setattr(streaming, "_hold_out", spy)
    run(X, y, groups=groups, penalties=(1.0,))
    ((train, held_out),) = sides
    assert not set(groups[train]) & set(groups[held_out])
    assert sorted([*train, *held_out]) == list(range(300))
    assert len(held_out) == pytest.approx(30, abs=8)
    assert len(np.unique(y[held_out])) == 3


def test_one_small_class_does_not_make_the_held_out_part_large():
    """With two images of a class, stratified folds would be halves; and it stays in the fit."""
    X, y = make_codes(300)
    y = y.astype("U6")
    y[[10, 11]], y[12] = "rare", "single"
    found = run(X, y, penalties=(1.0,))
    assert found.n_held_out <= 33
    assert list(found.pipeline.classes_) == ["c0", "c1", "c2", "rare", "single"]


def test_the_same_seed_gives_the_same_bits():
    X, y = make_codes(200)
    first, again, other = (
        run(X, y, penalties=(1.0, 10.0), seed=seed).pipeline.predict_proba(X) for seed in (4, 4, 5)
    )
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


# penalties and settings


def test_what_is_given_is_used():
    X, y = make_codes(200)
    found = run(X, y, penalties=(30.0, 3.0))
    assert [C for C, _ in found.tried] == [3.0, 30.0]
    assert found.value in {3.0, 30.0}
    one = run(X, y, settings={"alpha": 1e-3, "eta0": 0.1, "learning_rate": "constant"})
    estimator = one.pipeline["decisions"].estimator
    assert (estimator.alpha, estimator.eta0) == (pytest.approx(1e-3), 0.1)
    assert [one.value] == [C for C, _ in one.tried] == [pytest.approx(1 / (1e-3 * 180))]
    # Seven decades, weakest last, on rows twice as long a fourth of each.
    plain = run(X, y, settings={"max_iter": 1})
    assert [C for C, _ in plain.tried] == pytest.approx(np.logspace(0, 4, 5))


def test_the_estimator_holds_its_coefficients_once():
    """Averages and running steps, three times as large, would go into every bundle."""
    X, y = make_codes(200)
    estimator = run(X, y, penalties=(1.0,)).pipeline["decisions"].estimator
    arrays = [v for v in vars(estimator).values() if isinstance(v, np.ndarray) and v.size > 3]
    assert [array.shape for array in arrays] == [(3, 60)]


def test_a_model_that_stopped_keeps_its_best_epoch(monkeypatch):
    """Its accuracy on the held-out part is the one that was noted."""
    X, y = make_codes(300, noise=2)
    sides = []
    original = streaming._hold_out
    monkeypatch.setattr(
        streaming, "_hold_out", lambda *given: sides.append(original(*given)) or sides[-1]
    )
    calls = []
    codes = CodeMatrix([X], np.arange(300))
    found = fit_streamed(
        codes,
        y,
        np.arange(300),
        SearchSpace((CLASSIFIERS["logistic"],), penalties=(1.0, 1000.0)),
        "l2",
        "temperature",
        progress=lambda *given: calls.append(given),
    )
    held_out = sides[0][1]
    score = found.pipeline.score(X[held_out], y[held_out])
    assert score == max(accuracy for _, accuracy in found.tried) == calls[-1][2]
    assert [(epoch, most) for epoch, most, _ in calls] == [
        (epoch, 20) for epoch in range(1, found.n_epochs + 1)
    ]
    assert found.n_epochs < 50


def test_fewer_penalties_where_models_fill_the_memory(monkeypatch):
    X, y = make_codes(200)
    monkeypatch.setattr(streaming, "_MODEL_BYTES", 3 * 4 * 8 * 3 * 60)
    found = run(X, y)
    assert [C for C, _ in found.tried] == [10.0, 100.0, 1000.0]
    assert found.notes[0] == (
        "5 penalties would need 0.0 GB: tried are only C = 10, 100, 1000. Others: --C."
    )


def test_what_diverges_is_left_out():
    X, y = make_codes(200)
    diverges = {"learning_rate": "constant", "eta0": 1e300, "loss": "squared_error"}
    with pytest.raises(FitError) as caught:
        run(X, y, settings=diverges)
    assert str(caught.value) == (
        "Every model diverged. Leave out --set, or use --normalise l2 or a stronger penalty, "
        "as --C 1."
    )


# refusals


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"normalise": "centre"},
            "The road streamed cannot do --normalise centre. Expected l2, sqrt-l2 or none: use "
            "--normalise l2.",
        ),
        (
            {"normalise": "auto"},
            "The road streamed cannot do --normalise auto. Expected l2, sqrt-l2 or none: use "
            "--normalise l2.",
        ),
        (
            {"clf": "knn"},
            "The road streamed cannot fit knn. Expected --clf with one of logistic, ridge, "
            "linear-svm, sgd.",
        ),
        (
            {"settings": {"solver": "saga"}},
            "The road streamed has no parameter 'solver'. Expected --set with one of alpha, "
            "average, class_weight, epsilon, eta0, fit_intercept, l1_ratio, learning_rate, loss, "
            "max_iter, n_iter_no_change, penalty, power_t; penalties are given with --C.",
        ),
        (
            {"settings": {"class_weight": "heavy"}},
            "Cannot weigh classes by 'heavy'. Expected class_weight=balanced, or weights by label.",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused(given, message):
    X, y = make_codes(30)
    with pytest.raises(OptionError) as caught:
        run(X, y, **given)
    assert str(caught.value) == message


def test_nothing_to_hold_out():
    X, y = make_codes(30)
    with pytest.raises(FitError) as caught:
        run(X, y, groups=np.unique(y, return_inverse=True)[1])
    assert str(caught.value) == (
        "Fewer than two classes have two images that do not belong together, so nothing can be "
        "held out to stop the fit. Add images, or use --road span."
    )


def test_a_code_that_is_not_finite():
    X, y = make_codes(100)
    X[41, 3] = np.inf
    with pytest.raises(StoreError) as caught:
        run(X, y)
    assert str(caught.value) == "The code of row 41 is not finite. Extract again with --overwrite."
