"""Heads of networks give the probabilities of the models that they are made from."""

import re

import keras
import numpy as np
import pytest
from scipy.special import softmax
from tuning import logits_of

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


@pytest.mark.parametrize("normalise", ["l2", "centre", "sqrt-l2", "none"])
@pytest.mark.parametrize(
    ("clf", "n_classes"), [("logistic", 2), ("logistic", 3), ("ridge", 2), ("linear-svm", 3)]
)
def test_a_head_predicts_as_its_model(one_thread, stores, clf, normalise, n_classes):
    """In NumPy and in Keras, the softmax of the logits gives the model's probabilities."""
    store, codes = stores[n_classes]
    codes = codes.astype("f4")
    model = featx.fit(store, clf=clf, normalise=normalise, C=1.0, baselines=False).model
    expected = model.predict_proba(codes)
    head = head_of(model)
    assert (head.classes, head.normalise, head.n_features) == (model.classes, normalise, WIDTH)
    np.testing.assert_allclose(softmax(logits_of(head, codes), axis=1), expected, atol=1e-5)
    x = keras.ops.convert_to_tensor(codes)
    for layer in head_layers(head):
        x = layer(x)
    found = softmax(keras.ops.convert_to_numpy(x).astype("f8"), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.max() > 0.6  # a bias alone would give the class frequencies


@pytest.mark.parametrize(
    ("normalise", "whiten", "n_classes"),
    [("l2", False, 2), ("l2", True, 3), ("centre", False, 3), ("centre", True, 2)],
)
def test_a_head_of_a_model_with_principal_components(
    one_thread, stores, normalise, whiten, n_classes
):
    """Its kernel applies to the codes themselves."""
    store, codes = stores[n_classes]
    settings = {"components": 5, "whiten": whiten, "C": 1.0, "baselines": False}
    model = featx.fit(store, normalise=normalise, **settings).model
    head = head_of(model)
    assert head.n_features == WIDTH
    found = softmax(logits_of(head, codes.astype("f4")), axis=1)
    np.testing.assert_allclose(found, model.predict_proba(codes), atol=1e-5)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
def test_other_calibrations_are_left_out(one_thread, stores, calibration):
    """The logits are then the model's decision scores."""
    store, codes = stores[3]
    model = featx.fit(store, calibration=calibration, C=1.0, baselines=False).model
    steps = model.classifier.named_steps
    decisions = steps["decisions"].transform(steps["unit"].transform(codes))
    np.testing.assert_allclose(logits_of(head_of(model), codes), decisions, atol=1e-4)


def test_only_a_linear_classifier_on_one_layer_can_be_a_head(one_thread, tmp_path, make_store):
    """Others are refused, with the classifier and the layers in the message."""
    codes = np.random.default_rng(0).normal(size=(20, WIDTH)).astype("f4")
    layers = {"block1_conv1": codes, "block1_pool": codes}
    store = make_store(tmp_path / "two.h5", layers, list("ab") * 10)
    for settings, what in (
        ({"clf": "logistic"}, "LogisticRegression on block1_conv1+block1_pool"),
        ({"clf": "knn", "layer": "block1_pool"}, "StableNeighbours on block1_pool"),
    ):
        model = featx.fit(store, baselines=False, **settings).model
        with pytest.raises(OptionError, match=re.escape(what)):
            head_of(model)


@pytest.mark.parametrize("text", [None, "PK no zip", ""])
def test_other_files_than_tuned_networks_are_refused(tmp_path, text):
    """The message has the name of the file."""
    path = tmp_path / "tuned.keras"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=r"tuned\.keras"):
        tuned_model(path)
