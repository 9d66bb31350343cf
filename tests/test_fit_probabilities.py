"""Fits: probabilities are calibrated, and their largest is the predicted class."""

import numpy as np
import pytest
from fits import EXACT, check_refusal, fit, labels_of, make_codes, plain_model, split_of, unit
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import LinearSVC

from featx.errors import FitError
from featx.fitting import load_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", EXACT)
def test_the_most_probable_class_is_that_of_plain_scikit_learn(store_of, tmp_path, name, n_classes):
    """Probabilities of the saved model sum to 1."""
    labels = labels_of(60, n_classes)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf=name, C=[0.1, 10], output=tmp_path / "model.skops")
    model = load_model(tmp_path / "model.skops")
    X, raw = unit(codes), codes["block1_conv1"]
    value = found.to_dict()["tried"][0]["value"]
    plain = plain_model(name, value, X[:40], np.array(labels[:40]))
    probabilities = model.predict_proba(raw)
    assert probabilities.shape == (60, n_classes)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert (
        np.array(model.classes)[probabilities.argmax(axis=1)].tolist() == plain.predict(X).tolist()
    )
    assert model.classifier.predict(raw).tolist() == plain.predict(X).tolist()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_calibration_logistic_has_the_probabilities_of_scikit_learn(store_of, n_classes):
    """Those of other classifiers are the softmax of their decision scores."""
    labels = labels_of(60, n_classes)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, C=[5], calibration="none")
    plain = plain_model("logistic", 5, unit(codes)[:40], labels[:40])
    probabilities = found.model.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(probabilities, plain.predict_proba(unit(codes)), atol=1e-3)
    assert found.to_dict()["calibration"] == "none"
    assert found.evaluation.log_loss.value == pytest.approx(
        log_loss(labels[40:], probabilities[40:])
    )
    ridge = fit(path, clf="ridge", C=[5], calibration="none").model
    scores = ridge.classifier[:-1].transform(codes["block1_conv1"])
    assert np.array_equal(ridge.predict_proba(codes["block1_conv1"]), softmax(scores, axis=1))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_sigmoid_and_isotonic_are_fitted_on_held_out_decision_scores(store_of, method):
    labels = labels_of(120, 2)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=80, val=40), codes=codes)
    found = fit(path, clf="linear-svm", C=[2], calibration=method)
    X, y = unit(codes), np.array(labels)
    svm = LinearSVC(C=2, dual=False, max_iter=10_000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    held_out = cross_val_predict(svm, X[:80], y[:80], cv=folds, method="decision_function")
    of_final = svm.fit(X[:80], y[:80]).decision_function(X[80:])
    target = y[:80] == "class 1"
    if method == "isotonic":
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(held_out, target)
        expected = model.predict(of_final)
    else:
        # Platt's targets are nearly 1 and nearly 0
        n, p = np.sum(~target), np.sum(target)
        soft = np.where(target, (p + 1) / (p + 2), 1 / (n + 2))
        both = np.concatenate([held_out, held_out])[:, None]
        platt = LogisticRegression(C=np.inf, tol=1e-10).fit(
            both, np.repeat([1, 0], 80), np.concatenate([soft, 1 - soft])
        )
        expected = platt.predict_proba(of_final[:, None])[:, 1]
    probabilities = found.model.predict_proba(codes["block1_conv1"][80:])
    np.testing.assert_allclose(probabilities[:, 1], expected, atol=1e-3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("method", ["temperature", "sigmoid", "isotonic", "none"])
def test_each_calibration_gives_probabilities_of_three_classes(store_of, tmp_path, method):
    """The score is that of the saved model."""
    labels = labels_of(120)
    codes = make_codes(labels, strength=0.2)
    path = store_of(labels, split_of(train=80, val=40), codes=codes)
    output = tmp_path / "model.skops"
    found = fit(path, clf="ridge", C=[2], calibration=method, output=output)
    probabilities = load_model(output).predict_proba(codes["block1_conv1"])
    assert np.array_equal(probabilities, found.model.predict_proba(codes["block1_conv1"]))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    predicted = np.array(found.model.classes)[probabilities[80:].argmax(axis=1)]
    assert found.evaluation.accuracy.value == np.mean(predicted == np.array(labels[80:]))


def test_a_class_that_cannot_be_calibrated_is_refused(store_of):
    """Sigmoid and isotonic need held-out images of each class."""
    labels = ["lonely", *labels_of(60)]
    path = store_of(labels, split_of(train=46, val=15))
    settings = {"clf": "ridge", "C": [1], "calibration": "isotonic"}
    facts = ("lonely", "--calibration isotonic", "--calibration temperature")
    check_refusal(FitError, *facts, codes=path, **settings)


@pytest.mark.parametrize("name", ["logistic", "ridge", "svm-rbf", "knn", "lda"])
def test_the_mean_confidence_is_close_to_the_accuracy(store_of, name):
    """This holds for images that the classifier was not fitted on."""
    labels = labels_of(400, 3)
    codes = make_codes(labels, strength=0.15)
    path = store_of(labels, split_of(train=150, val=250), codes=codes)
    found = fit(path, clf=name, C=[0.1, 1, 10])
    probabilities = found.model.predict_proba(codes["block1_conv1"][150:])
    assert 0.4 < found.evaluation.accuracy.value < 0.9
    assert probabilities.max(axis=1).mean() == pytest.approx(
        found.evaluation.accuracy.value, abs=0.1
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["ridge", "linear-svm"])
def test_a_class_with_one_image_leaves_the_other_probabilities_as_they_are(
    store_of, name, n_classes
):
    labels = ["lonely", *labels_of(60, n_classes)]
    codes = make_codes(labels, strength=1)
    model = fit(
        store_of(labels, split_of(train=46, val=15), codes=codes), clf=name, C=[1, 10]
    ).model
    assert model.classes == tuple(sorted(set(labels)))
    probabilities = model.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    predicted = np.array(model.classes)[probabilities.argmax(axis=1)]
    assert predicted[1:].tolist() == labels[1:]
    assert probabilities.max(axis=1)[1:].mean() > 0.6


def test_separable_classes_have_confident_probabilities(store_of):
    """The strongest penalty wins the search, and calibration corrects its low confidence."""
    labels = labels_of(60, 3)
    codes = make_codes(labels, strength=3)
    path = store_of(labels, split_of(train=40, val=20), codes=codes)
    found = fit(path, clf="logistic")
    assert found.evaluation.accuracy.value == 1
    assert found.model.predict_proba(codes["block1_conv1"]).max(axis=1).min() > 0.9


def test_two_images_have_the_probabilities_of_scikit_learn(store_of):
    """Nothing can be held out to calibrate on."""
    labels = ["a", "b", "a", "b"]
    codes = make_codes(labels, strength=3)
    model = fit(store_of(labels, ["train", "train", "val", "val"], codes=codes)).model
    plain = LogisticRegression(max_iter=10_000, tol=1e-6).fit(unit(codes)[:2], labels[:2])
    probabilities = model.predict_proba(codes["block1_conv1"])
    np.testing.assert_allclose(probabilities, plain.predict_proba(unit(codes)), atol=1e-4)
