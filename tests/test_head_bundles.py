"""Heads and bundles: the same probabilities on both sides, whatever the classifier."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

import featx
from featx.errors import ModelError, OptionError
from featx.finetuning.heads import head_layers
from featx.workflows.heads import head_of, tuned_model

WIDTH = 64


@pytest.fixture(scope="module")
def stores(tmp_path_factory, make_store):
    """Stores of noisy codes, of two and of three classes; some codes are zeros."""
    folder = tmp_path_factory.mktemp("stores")
    found = {}
    for n_classes in (2, 3):
        rng = np.random.default_rng(n_classes)
        numbers = np.arange(45) % n_classes
        codes = rng.exponential(size=(45, WIDTH)) * (rng.random((45, WIDTH)) < 0.5)
        codes[np.arange(45), numbers] += 1.5
        codes[7] = 0
        labels = [f"class{k}" for k in numbers]
        path = folder / f"{n_classes}.h5"
        found[n_classes] = make_store(path, {"block1_pool": codes.astype("f4")}, labels), codes
    return found


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("normalise", ["l2", "centre", "sqrt-l2", "none"])
@pytest.mark.parametrize("clf", ["logistic", "ridge", "linear-svm"])
def test_a_head_says_what_its_bundle_says(one_thread, stores, clf, normalise, n_classes):
    """In NumPy and in Keras the softmax of the logits is the bundle's probabilities."""
    store, codes = stores[n_classes]
    codes = codes.astype("f4")
    bundle = featx.fit(store, clf=clf, normalise=normalise, baselines=False).model
    expected = bundle.predict_proba(codes)
    head = head_of(bundle)
    assert (head.classes, head.normalise, head.n_features) == (bundle.classes, normalise, WIDTH)
    np.testing.assert_allclose(softmax(head.logits(codes), axis=1), expected, atol=1e-5)
    x = keras.ops.convert_to_tensor(codes)
    for layer in head_layers(head):
        x = layer(x)
    found = softmax(keras.ops.convert_to_numpy(x).astype("f8"), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.max() > 0.6  # not the classes' shares for all, which any bias would give


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("normalise", ["l2", "centre"])
def test_a_head_takes_principal_components_back_to_the_codes(
    one_thread, stores, normalise, whiten, n_classes
):
    store, codes = stores[n_classes]
    bundle = featx.fit(
        store, normalise=normalise, components=5, whiten=whiten, baselines=False
    ).model
    head = head_of(bundle)
    assert head.n_features == WIDTH
    found = softmax(head.logits(codes.astype("f4")), axis=1)
    np.testing.assert_allclose(found, bundle.predict_proba(codes), atol=1e-5)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
def test_without_a_temperature_the_head_keeps_the_decisions(one_thread, stores, calibration):
    """What is calibrated otherwise is not copied, but the labels are the bundle's decisions'."""
    store, codes = stores[3]
    bundle = featx.fit(store, calibration=calibration, baselines=False).model
    steps = bundle.classifier.named_steps
    decisions = steps["decisions"].transform(steps["unit"].transform(codes))
    np.testing.assert_allclose(head_of(bundle).logits(codes), decisions, atol=1e-4)


def test_only_a_linear_classifier_of_one_layer_is_a_head(one_thread, tmp_path, make_store):
    """Neighbours and joined layers are refused, and what would do is said."""
    codes = np.random.default_rng(0).normal(size=(20, WIDTH)).astype("f4")
    layers = {"block1_conv1": codes, "block1_pool": codes}
    store = make_store(tmp_path / "two.h5", layers, list("ab") * 10)
    for settings, what in (
        ({"clf": "logistic"}, "LogisticRegression on block1_conv1+block1_pool"),
        ({"clf": "knn", "layer": "block1_pool"}, "StableNeighbours on block1_pool"),
    ):
        bundle = featx.fit(store, baselines=False, **settings).model
        with pytest.raises(OptionError) as refused:
            head_of(bundle)
        assert what in str(refused.value)
        assert "--clf logistic, ridge or linear-svm with one --layer" in str(refused.value)


@pytest.mark.parametrize("text", [None, "PK no zip", ""])
def test_what_is_no_tuned_network_is_refused(tmp_path, text):
    """A missing or foreign file is named; nothing of it is run."""
    path = tmp_path / "tuned.keras"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=r"tuned\.keras"):
        tuned_model(path)
