"""The streamed solver: close to the exact result, one block in memory, the same bits."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from featx.codes.matrix import CodeMatrix
from featx.errors import FitError, OptionError, StoreError
from featx.fitting import sgd
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.grid_search import SearchSpace
from featx.fitting.sgd import fit_streamed

pytestmark = pytest.mark.usefixtures("one_thread")


def make_codes(n: int, k: int = 3, *, d: int = 60, noise: float = 1.2, seed: int = 0):
    """Return float16 codes like those of a ReLU, and labels, sorted by class."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99)
    middles, turn = truth.standard_normal((k, 8)), truth.standard_normal((8, d))
    classes = np.sort(rng.integers(0, k, n))
    hidden = middles[classes] + noise * rng.standard_normal((n, 8))
    return np.maximum(hidden @ turn, 0).astype(np.float16), np.array([f"c{c}" for c in classes])


def run(X, y, *, clf="logistic", normalise="l2", calibration="temperature", groups=None, **given):
    """Fit on an array, with other fields of `SearchSpace`."""
    groups = np.arange(len(y)) if groups is None else groups
    codes = CodeMatrix([X], np.arange(len(X)))
    space = SearchSpace((CLASSIFIERS[clf],), (normalise,), **given)
    return fit_streamed(codes, y, groups, space, calibration)


def unit(X):
    """Return rows of unit length, computed by scikit-learn."""
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
def test_the_accuracy_is_close_to_that_of_the_exact_solver(clf, exact, n_classes):
    """The codes are float16 and sorted by class."""
    X, y = make_codes(600, n_classes)
    others, truth = make_codes(600, n_classes, seed=1)
    found = run(X, y, clf=clf)
    expected = exact.fit(unit(X), y).score(unit(others), truth)
    assert 0.75 < expected < 0.995
    assert found.pipeline.score(others, truth) > expected - 0.03
    assert found.n_held_out == 60


@pytest.mark.parametrize("normalise", ["l2", "sqrt-l2", "none"])
@pytest.mark.parametrize("clf", ["logistic", "ridge"])
def test_every_normalisation_accepts_codes_of_any_scale(clf, normalise):
    X, y = make_codes(400)
    found = run(300 * X.astype(np.float32), y, clf=clf, normalise=normalise)
    others, truth = make_codes(400, seed=1)
    assert found.pipeline.score(300 * others.astype(np.float32), truth) > 0.75
    assert [name for name, _ in found.pipeline.steps] == (
        ["unit"] * (normalise != "none") + ["decisions", "calibration"]
    )


def test_each_layer_is_scaled_to_unit_length():
    X, y = make_codes(300)
    layers = CodeMatrix([X[:, :20], 1000 * X[:, 20:].astype(np.float32)], np.arange(300))
    space = SearchSpace((CLASSIFIERS["logistic"],), penalties=(10.0,))
    found = fit_streamed(layers, y, np.arange(300), space, "none")
    assert found.pipeline[0].widths == (20, 40)
    assert found.pipeline.score(layers.block(np.arange(300)), y) > 0.8


def test_permuted_labels_are_predicted_at_chance():
    X, y = make_codes(600)
    found = run(X, np.random.default_rng(3).permutation(y), penalties=(1.0, 100.0))
    others, truth = make_codes(600, seed=1)
    assert found.pipeline.score(others, truth) < 0.5


def test_the_temperature_lowers_the_log_loss_on_new_codes():
    X, y = make_codes(600)
    others, truth = make_codes(600, seed=1)
    own = np.searchsorted(np.unique(y), truth)
    losses = {}
    for method in ("temperature", "none"):
        found = run(X, y, calibration=method, penalties=(0.1,))
        probabilities = found.pipeline.predict_proba(others)
        assert np.allclose(probabilities.sum(axis=1), 1)
        losses[method] = -np.mean(np.log(probabilities[np.arange(600), own]))
    assert losses["temperature"] < losses["none"] - 0.02


def test_balanced_weights_raise_the_recall_of_the_rare_class():
    X, y = make_codes(900, 2)
    kept = np.r_[np.flatnonzero(y == "c0"), np.flatnonzero(y == "c1")[:30]]
    others, truth = make_codes(900, 2, seed=1)
    recalls = []
    for weight in (None, "balanced"):
        found = run(X[kept], y[kept], penalties=(1.0,), settings={"class_weight": weight})
        recalls.append(np.mean(found.pipeline.predict(others[truth == "c1"]) == "c1"))
    assert recalls[1] > recalls[0] + 0.2


# blocks, held-out rows and seeds


def test_blocks_are_read_one_at_a_time_in_the_order_of_the_disk(monkeypatch):
    X, y = make_codes(300)
    monkeypatch.setattr(sgd, "_BLOCK_BYTES", 7 * 8 * X.shape[1])
    read = []
    original = CodeMatrix.block

    def block(self, positions):
        read.append(np.array(positions))
        return original(self, positions)

    monkeypatch.setattr(CodeMatrix, "block", block)
    found = run(X, y, penalties=(1.0, 10.0), settings={"max_iter": 3})
    assert max(map(len, read)) == 7
    assert all((np.diff(positions) > 0).all() for positions in read)
    # Each epoch reads each row once for both models; held-out rows are read again to calibrate.
    assert np.sum([len(positions) for positions in read]) == 3 * 300 + found.n_held_out
    assert found.n_epochs == 3
    first = np.concatenate(read[:20])
    assert len(np.unique(y[first])) == 3
    assert len(np.unique(first)) == len(first)


def test_a_group_is_either_fitted_on_or_held_out(monkeypatch):
    X, y = make_codes(300)
    groups = np.arange(300) // 4
    sides = []
    original = sgd._hold_out

    def spy(*given):
        sides.append(original(*given))
        return sides[-1]

    monkeypatch.setattr(sgd, "_hold_out", spy)
    run(X, y, groups=groups, penalties=(1.0,))
    ((train, held_out),) = sides
    assert not set(groups[train]) & set(groups[held_out])
    assert sorted([*train, *held_out]) == list(range(300))
    assert len(held_out) == pytest.approx(30, abs=8)
    assert len(np.unique(y[held_out])) == 3


def test_a_small_class_is_fitted_on_and_does_not_enlarge_the_held_out_set():
    """Stratified folds of a class of two images would be halves."""
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


def test_given_penalties_and_parameters_are_used():
    X, y = make_codes(200)
    found = run(X, y, penalties=(30.0, 3.0))
    assert [C for C, _ in found.tried] == [3.0, 30.0]
    assert found.value in {3.0, 30.0}
    one = run(X, y, settings={"alpha": 1e-3, "eta0": 0.1, "learning_rate": "constant"})
    estimator = one.pipeline["decisions"].estimator_
    assert (estimator.alpha, estimator.eta0) == (pytest.approx(1e-3), 0.1)
    assert [one.value] == [C for C, _ in one.tried] == [pytest.approx(1 / (1e-3 * 180))]
    plain = run(X, y, settings={"max_iter": 1})
    assert [C for C, _ in plain.tried] == pytest.approx(np.logspace(0, 4, 5))


def test_the_estimator_has_one_array_of_coefficients():
    """Averages and other arrays of the fit would make models three times as large."""
    X, y = make_codes(200)
    estimator = run(X, y, penalties=(1.0,)).pipeline["decisions"].estimator_
    arrays = [v for v in vars(estimator).values() if isinstance(v, np.ndarray) and v.size > 3]
    assert [array.shape for array in arrays] == [(3, 60)]


def test_the_best_epoch_is_kept(monkeypatch):
    """The accuracy of the pipeline on the held-out rows is the best one that was recorded."""
    X, y = make_codes(300, noise=2)
    sides = []
    original = sgd._hold_out
    monkeypatch.setattr(
        sgd, "_hold_out", lambda *given: sides.append(original(*given)) or sides[-1]
    )
    found = run(X, y, penalties=(1.0, 1000.0))
    held_out = sides[0][1]
    score = found.pipeline.score(X[held_out], y[held_out])
    assert score == max(accuracy for _, accuracy in found.tried)
    assert found.n_epochs < 20


def test_fewer_penalties_are_tried_if_models_fill_the_memory(monkeypatch):
    X, y = make_codes(200)
    monkeypatch.setattr(sgd, "_MODEL_BYTES", 3 * 4 * 8 * 3 * 60)
    found = run(X, y)
    assert [C for C, _ in found.tried] == [10.0, 100.0, 1000.0]
    assert "C = 10, 100, 1000" in found.notes[0]
    assert "--C" in found.notes[0]


def test_an_error_is_raised_if_every_model_diverges():
    X, y = make_codes(200)
    diverges = {"learning_rate": "constant", "eta0": 1e300, "loss": "squared_error"}
    with pytest.raises(FitError, match=r"--set.*--normalise l2.*--C 1"):
        run(X, y, settings=diverges)


def test_a_penalty_ends_if_one_of_its_classes_overflows_in_the_first_block():
    """The other classes have coefficients of another shape then."""
    X, _ = make_codes(12)
    estimator = SGDClassifier(
        learning_rate="constant", eta0=1e300, loss="squared_error", average=99
    )
    model = sgd._Model(1.0, estimator, np.array(["a", "b", "c"]))
    model.binary[0].estimator.set_params(eta0=1e-9)
    for each in model.binary:
        each.step(X.astype(float), np.arange(12) % 3, None)
    assert [each.is_finite for each in model.binary] == [True, False, False]
    model.update(model.binary, np.zeros((12, 3)), np.arange(12) % 3)
    assert not model.is_finite


# refusals


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"normalise": "centre"}, "--normalise centre.*--normalise l2, sqrt-l2 or none"),
        ({"settings": {"solver": "saga"}}, "'solver'.*--set with one of alpha, .*--C"),
        ({"settings": {"class_weight": "heavy"}}, "class_weight.*'heavy'.*balanced"),
    ],
)
def test_settings_that_the_solver_does_not_support_are_refused(given, facts):
    X, y = make_codes(30)
    with pytest.raises(OptionError, match=facts):
        run(X, y, **given)


def test_an_error_is_raised_if_nothing_can_be_held_out():
    X, y = make_codes(30)
    with pytest.raises(FitError, match="--solver gram"):
        run(X, y, groups=np.unique(y, return_inverse=True)[1])


def test_a_code_that_is_not_finite_is_refused_with_its_row():
    X, y = make_codes(100)
    X[41, 3] = np.inf
    with pytest.raises(StoreError, match=r"row 41.*--overwrite"):
        run(X, y)
