"""Heads, in NumPy and as Keras layers, compared with scikit-learn on the same codes."""

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import Normalizer
from tuning import logits_of

from featx.errors import OptionError
from featx.finetuning.heads import Head, custom_layers, head_layers, random_head, read_head

# Keras converts tensors in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = ("ant", "bee", "wasp")
NORMALISES = ("none", "l2", "sqrt-l2", "centre")
LARGE = 3e4  # as in block5 of VGG19, where only the normalization keeps features small


def make_codes(n=30, d=12, *, seed=0):
    """Return codes as after ReLU, half zeros, of many magnitudes, and a row of zeros."""
    rng = np.random.default_rng(seed)
    codes = np.maximum(rng.standard_normal((n, d)), 0) * np.geomspace(1e-3, LARGE, n)[:, None]
    codes[n // 2] = 0
    return codes.astype(np.float32)


def normalised(codes, normalise, mean=None):
    """Return codes normalised with scikit-learn."""
    codes = codes.astype(np.float64)
    if normalise == "none":
        return codes
    if normalise == "sqrt-l2":
        codes = np.copysign(np.sqrt(np.abs(codes)), codes)
    codes = Normalizer().transform(codes)
    return Normalizer().transform(codes - mean) if normalise == "centre" else codes


def mean_of(codes, normalise):
    return Normalizer().transform(codes).mean(axis=0) if normalise == "centre" else None


def fitted(normalise, codes):
    """Return a head with the weights of a logistic regression, and that regression."""
    mean = mean_of(codes.astype(np.float64), normalise)
    X = normalised(codes, normalise, mean)
    y = np.arange(len(codes)) % 3
    model = LogisticRegression(max_iter=10_000).fit(X / np.abs(X).max(), y)
    model.coef_ /= np.abs(X).max()
    return Head(CLASSES, normalise, mean, (model.coef_.T,), (model.intercept_,)), model


def run(layers, x, **how):
    from keras import ops

    x = ops.convert_to_tensor(x)
    for layer in layers:
        x = layer(x, **how) if layer.name.startswith("head_dropout") else layer(x)
    return ops.convert_to_numpy(x)


def as_model(layers, shape):
    import keras

    inputs = keras.Input(shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def gradients(layer, x, upstream):
    """Return the gradient of sum(layer(x) * upstream), computed by the backend."""
    import keras

    x, upstream = (np.asarray(a, np.float32) for a in (x, upstream))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(layer(x) * upstream)
        return tape.gradient(total, x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: (layer(x) * upstream).sum())(x))
    import torch

    x = torch.tensor(x, requires_grad=True)
    (layer(x) * torch.tensor(upstream)).sum().backward()
    return x.grad.numpy()


# the same numbers


@pytest.mark.parametrize("normalise", NORMALISES)
def test_a_linear_head_predicts_as_scikit_learn(normalise):
    """They agree in NumPy up to rounding, and in Keras up to float32, also on other rows."""
    head, model = fitted(normalise, make_codes())
    for codes in (make_codes(), make_codes(seed=1)):
        expected = model.decision_function(normalised(codes, normalise, head.mean))
        np.testing.assert_allclose(logits_of(head, codes), expected, rtol=1e-9, atol=1e-12)
        found = run(head_layers(head), codes)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("normalise", NORMALISES)
def test_a_perceptron_has_relu_between_its_kernels(normalise):
    """Its softmax is that of scikit-learn's with the same coefficients."""
    codes = make_codes()
    mean = mean_of(codes.astype(np.float64), normalise)
    X = normalised(codes, normalise, mean)
    scale = np.abs(X).max()
    model = MLPClassifier((7, 5), max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X / scale, np.arange(len(X)) % 3)
    kernels = (model.coefs_[0] / scale, *model.coefs_[1:])
    head = Head(CLASSES, normalise, mean, kernels, tuple(model.intercepts_))
    expected = model.predict_proba(X / scale)
    for logits in (logits_of(head, codes), run(head_layers(head), codes)):
        grown = np.exp(logits)
        np.testing.assert_allclose(grown / grown.sum(axis=1, keepdims=True), expected, atol=2e-6)


def test_activations_are_flattened_as_a_store_has_them():
    """Height, then width, then channels, whatever a user's keras.json says."""
    import keras

    codes = make_codes(4, 24)
    head = random_head(CLASSES, 24, (), 0, "l2")
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        found = run(head_layers(head), codes.reshape(4, 2, 3, 4))
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(found, logits_of(head, codes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalise", NORMALISES)
def test_a_head_computes_in_float32_on_bfloat16_activations(normalise):
    """The code is rounded, and the logits are not."""
    import keras

    head, _ = fitted(normalise, make_codes())
    rounded = make_codes().astype(ml_dtypes.bfloat16)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        layers = head_layers(head, dropout=0.5)
    finally:
        keras.config.set_dtype_policy(before)
    found = run(layers, keras.ops.cast(rounded.astype(np.float32), "bfloat16"), training=False)
    assert found.dtype == np.float32
    expected = logits_of(head, rounded.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


# slopes


@pytest.mark.parametrize("name", ["SignedRoot", "UnitRows", "CentredRows"])
def test_gradients_are_right(name):
    """Against differences of scikit-learn's numbers in float64, signs mixed."""
    rng = np.random.default_rng(3)
    x, upstream = rng.standard_normal((2, 5, 4))
    x += np.copysign(0.1, x)  # away from the root's corner
    mean = rng.uniform(0, 0.3, 4)
    layer = custom_layers()[name](dtype="float32")
    layer.build((None, 4))
    layer.set_weights([mean] if name == "CentredRows" else [])

    def expected(x):
        if name == "SignedRoot":
            return np.copysign(np.sqrt(np.abs(x)), x)
        return Normalizer().transform(x - mean if name == "CentredRows" else x)

    differences = np.zeros_like(x)
    step = 1e-6
    for place in np.ndindex(*x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        change = expected(x + moved) - expected(x - moved)
        differences[place] = np.sum(change * upstream) / (2 * step)
    np.testing.assert_allclose(gradients(layer, x, upstream), differences, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["SignedRoot", "UnitRows", "CentredRows"])
def test_zeros_stay_zero_and_have_no_gradient(name):
    """A row without direction is zero, and so is its slope, never nan; others keep theirs."""
    layer = custom_layers()[name](dtype="float32")
    layer.build((None, 4))
    mean = np.float32([0.5, 0, 2, 1])
    layer.set_weights([mean] if name == "CentredRows" else [])
    x = np.float32([[0, 0, 0, 0], [0, 0.64, 0, 0], [0.1, 4, -9, 0.2]])
    if name == "CentredRows":
        x += mean
    found = run([layer], x)
    assert np.array_equal(found[0], np.zeros(4))
    assert np.isfinite(found).all()
    slope = gradients(layer, x, np.ones((3, 4)))
    assert np.array_equal(slope[0], np.zeros(4))
    assert np.isfinite(slope).all()
    assert slope[1:].any(axis=1).all()


def test_a_batch_of_zeros_trains_without_nan():
    """If all ReLUs of the last layer are 0, the gradients of the loss are finite."""
    for normalise in NORMALISES:
        head, _ = fitted(normalise, make_codes())
        layers = head_layers(head)

        def logits(x, layers=layers):
            for layer in layers:
                x = layer(x)
            return x

        assert np.isfinite(gradients(logits, np.zeros((3, 12)), np.ones((3, 3)))).all()


# layers


def test_layers_have_the_names_that_files_keep():
    """Dropout is before the only kernel, or before all but the first."""

    def names(normalise, hidden, dropout):
        codes = make_codes()
        mean = mean_of(codes, normalise)
        made = random_head(CLASSES, 12, hidden, 0)
        head = Head(CLASSES, normalise, mean, made.kernels, made.biases)
        return [layer.name.removeprefix("head_") for layer in head_layers(head, dropout)]

    assert names("none", (), 0) == ["flatten", "logits"]
    assert names("l2", (), 0.5) == ["flatten", "unit", "dropout1", "logits"]
    assert names("centre", (), 0) == ["flatten", "unit", "centre", "logits"]
    assert names("sqrt-l2", (8, 6), 0.5) == [
        *("flatten", "root", "unit", "dense1"),
        *("dropout1", "dense2", "dropout2", "logits"),
    ]
    assert names("none", (8,), 0) == ["flatten", "dense1", "logits"]


def test_dropout_drops_in_training_only():
    """Half of the inputs are zero, the others are doubled."""
    head = Head(("a",) * 50, "none", None, (np.eye(50),), (np.zeros(50),))
    layers = head_layers(head, dropout=0.5)
    codes = np.ones((40, 50), np.float32)
    assert np.array_equal(run(layers, codes, training=False), codes)
    dropped = run(layers, codes, training=True)
    assert set(np.unique(dropped)) == {0, 2}
    assert 0.45 < np.mean(dropped == 0) < 0.55


@pytest.mark.parametrize("normalise", NORMALISES)
@pytest.mark.parametrize("hidden", [(), (6,)])
def test_a_saved_model_is_loaded_as_it_was(normalise, hidden, tmp_path):
    """From a .keras file without custom objects, and as weights of another model."""
    import keras

    codes = make_codes()
    made = random_head(CLASSES, 12, hidden, 0)
    head = Head(CLASSES, normalise, mean_of(codes, normalise), made.kernels, made.biases)
    model = as_model(head_layers(head, 0.5), (2, 2, 3))
    images = codes.reshape(-1, 2, 2, 3)
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "tuned.keras")
    again = keras.models.load_model(tmp_path / "tuned.keras")
    assert np.array_equal(again.predict(images, verbose=0), expected)
    model.save_weights(tmp_path / "tuned.weights.h5")
    blank = random_head(CLASSES, 12, hidden, 1)
    mean = None if head.mean is None else np.zeros(12)
    blank = Head(CLASSES, normalise, mean, blank.kernels, blank.biases)
    other = as_model(head_layers(blank), (12,))
    assert not np.allclose(other.predict(codes, verbose=0), expected)
    # The head is read by name, because `other` has no dropout.
    found = read_head(blank, again.layers)
    np.testing.assert_allclose(
        logits_of(found, codes), expected, atol=1e-5 * np.abs(expected).max()
    )
    same = as_model(head_layers(read_head(head, other.layers), 0.5), (2, 2, 3))
    same.load_weights(tmp_path / "tuned.weights.h5")
    assert np.array_equal(same.predict(images, verbose=0), expected)


def test_layers_are_registered_as_featx():
    """Files of a head name them, and not a module that may move."""
    import keras

    for name, layer in custom_layers().items():
        assert keras.saving.get_registered_name(layer) == f"featx>{name}"


@pytest.mark.parametrize("hidden", [(), (6, 5)])
def test_a_head_is_read_back_after_training(hidden):
    """Kernels and biases are trained; the mean does not change."""
    import keras

    codes = make_codes()
    made = random_head(CLASSES, 12, hidden, 0)
    head = Head(CLASSES, "centre", mean_of(codes, "centre"), made.kernels, made.biases)
    model = as_model(head_layers(head), (12,))
    for found, expected in zip(read_head(head, model.layers).kernels, head.kernels, strict=True):
        assert np.array_equal(found, expected)
    assert len(model.trainable_variables) == 2 * len(head.kernels)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.fit(codes, np.arange(len(codes)) % 3, epochs=2, verbose=0)
    tuned = read_head(head, model.layers)
    assert tuned.classes == CLASSES
    assert tuned.normalise == "centre"
    assert np.array_equal(tuned.mean, head.mean.astype(np.float32))
    for found, before in zip(tuned.kernels + tuned.biases, head.kernels + head.biases, strict=True):
        assert not np.array_equal(found, before)
    np.testing.assert_allclose(
        logits_of(tuned, codes), model.predict(codes, verbose=0), rtol=0, atol=1e-5
    )


# random heads, and arrays that cannot be a head


def test_random_heads_are_initialised_as_in_keras():
    """Kernels are uniform within Keras's limits, biases are zero, and the seed decides."""
    import keras

    head = random_head(CLASSES, 300, (200,), seed=5, normalise="l2")
    assert [kernel.shape for kernel in head.kernels] == [(300, 200), (200, 3)]
    assert not any(bias.any() for bias in head.biases)
    assert (head.normalise, head.n_features, head.mean) == ("l2", 300, None)
    for kernel in head.kernels:
        theirs = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(0)(kernel.shape))
        assert np.abs(kernel).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)
        assert kernel.std() == pytest.approx(theirs.std(), rel=0.1)
        assert abs(kernel.mean()) < 0.1 * kernel.std()
    again, other = (random_head(CLASSES, 300, (200,), seed=seed) for seed in (5, 6))
    assert np.array_equal(again.kernels[0], head.kernels[0])
    assert not np.array_equal(other.kernels[0], head.kernels[0])


@pytest.mark.parametrize(
    ("normalise", "mean", "kernels", "biases"),
    [
        ("none", None, (), ()),
        ("none", None, ((4, 2),), ((2,),)),
        ("none", None, ((4, 3),), ((2,),)),
        ("none", None, ((4, 3),), ((3,), (3,))),
        ("none", None, ((4, 5), (6, 3)), ((5,), (3,))),
        ("none", None, ((3,),), ((),)),
        ("centre", None, ((4, 3),), ((3,),)),
        ("centre", (3,), ((4, 3),), ((3,),)),
        ("l2", (4,), ((4, 3),), ((3,),)),
    ],
)
def test_arrays_of_other_shapes_are_refused(normalise, mean, kernels, biases):
    """The message has the shapes."""
    shapes = re.escape(f"--normalise {normalise}: kernels {list(kernels)}")
    with pytest.raises(OptionError, match=shapes):
        Head(
            CLASSES,
            normalise,
            None if mean is None else np.ones(mean),
            tuple(map(np.ones, kernels)),
            tuple(map(np.ones, biases)),
        )


def test_an_unknown_normalisation_is_refused():
    """The message has the value and the flag."""
    with pytest.raises(OptionError, match=r"'l1'.*--normalise"):
        random_head(CLASSES, 4, (), 0, "l1")


# other backends


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same(backend):
    """Tests of heads and of augmentation, under KERAS_BACKEND=jax and torch."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    tests = "(sqrt-l2 or centre) and (predicts or float32) or flattened or gradient or read_back"
    tests += " or mirror or ranges and lecture or saturation_keeps or of_a_model"
    files = [__file__, Path(__file__).with_name("test_augmentation.py")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files, "-k", tests]
    found = subprocess.run(
        command,
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
