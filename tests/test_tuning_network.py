"""The network that is trained, compared with Keras's own VGG19 and a head in NumPy."""

import functools

import numpy as np
import pytest
from pooling import plainly_pooled
from tuning import (
    logits_of,
    noise_images,
    small_head,
    small_network,
    small_recipe,
    small_weights,
    vgg_weights,
)

from featx.errors import OptionError
from featx.finetuning.augmentation import reseed
from featx.finetuning.network import Network
from featx.finetuning.settings import TrainingSettings
from featx.network import find_device, find_weights, read_weights
from featx.network.weights.sources import BUNDLED_SHA256

# Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@functools.cache
def keras_vgg19():
    import keras

    with find_device("cpu").scope():
        return keras.applications.VGG19(
            include_top=False, weights=None, input_shape=(None, None, 3)
        )


def plain_codes(recipe, weights, images):
    """Return codes of Keras's own VGG19, pooled in NumPy, of shape (n, d)."""
    import keras

    vgg = keras_vgg19()
    for name, arrays in weights.items():
        vgg.get_layer(name).set_weights(arrays)
    if recipe.preprocess == "caffe":
        x = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    else:
        x = images.astype("f4") / 255
    model = keras.Model(vgg.input, vgg.get_layer(recipe.layers[0]).output)
    with find_device("cpu").scope():
        codes = as_numpy(model(x))
    return plainly_pooled(codes, recipe.pool).reshape(len(codes), -1)


def as_numpy(x):
    import keras

    return keras.ops.convert_to_numpy(x)


def call(model, x, **how):
    with find_device("cpu").scope():
        return as_numpy(model(x, **how))


@pytest.mark.parametrize(
    ("settings", "freeze_until", "head"),
    [
        ({"preprocess": "caffe"}, "block1_pool", {"normalise": "sqrt-l2"}),
        ({"pool": "avg"}, "block1_conv1", {"hidden": (7, 6), "normalise": "l2"}),
        ({"pool": "max", "size": (16, 24)}, "block2_pool", {"normalise": "centre"}),
        ({"layers": ("block2_conv1",)}, "none", {}),
        ({"pool": "grid:3"}, "block1_pool", {"normalise": "l2"}),
        ({"pool": "avg+max", "size": (16, 24)}, "block2_pool", {"normalise": "centre"}),
    ],
    ids=["caffe", "avg-mlp", "max-head-alone", "convolution-all-free", "grid", "avg-max"],
)
def test_every_model_is_keras_vgg19_with_a_head(settings, freeze_until, head):
    recipe = small_recipe(**settings)
    made = small_head(recipe, **head)
    tuning = TrainingSettings(freeze_until=freeze_until, augment="lecture", dropout=0.5)
    network = small_network(tuning, recipe, made)
    images = noise_images(3, size=24)[:, : recipe.size[0], : recipe.size[1]]
    expected = logits_of(made, plain_codes(recipe, small_weights(recipe), images))
    close = functools.partial(
        np.testing.assert_allclose, desired=expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )
    close(call(network.model, images))
    close(call(network.training_model, images, training=False))
    assert np.abs(call(network.training_model, images, training=True) - expected).max() > 1e-3
    if freeze_until == "none":
        assert network.tail is None
        assert network.frozen_part is None
        return
    close(call(network.tail, call(network.frozen_part, images.astype("f4"))))
    np.testing.assert_array_equal(call(network.augment, images, training=False), images)
    # One model draws what its parts draw, one after the other.
    reseed(network.random_layers, 0, 1)
    whole = call(network.training_model, images, training=True)
    reseed(network.random_layers, 0, 1)
    changed = call(network.augment, images, training=True)
    parts = call(network.tail, call(network.frozen_part, changed), training=True)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


@pytest.mark.shared
def test_real_weights_give_the_codes_that_keras_gives(shared):
    recipe = small_recipe(weights=BUNDLED_SHA256, preprocess="caffe", layers=("block1_pool",))
    weights = read_weights(find_weights("bundled", recipe.layers), recipe.layers)
    head = small_head(recipe)
    images = noise_images(2)
    tuning = TrainingSettings(freeze_until="none", augment="none")
    network = Network(recipe, weights, head, tuning, find_device("cpu"))
    expected = logits_of(head, plain_codes(recipe, weights, images))
    found = call(network.model, images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("freeze_until", "free"),
    [
        ("none", ["block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2"]),
        ("block1_conv1", ["block1_conv2", "block2_conv1", "block2_conv2"]),
        ("block2_pool", []),
    ],
)
def test_only_layers_behind_the_frozen_ones_can_be_trained(freeze_until, free):
    recipe = small_recipe()
    network = small_network(TrainingSettings(freeze_until=freeze_until), recipe, small_head(recipe))
    expected = [f"{name}/{kind}" for name in [*free, "head_logits"] for kind in ("kernel", "bias")]
    for model in (network.model, network.training_model, network.tail):
        if model is not None:
            assert [variable.path for variable in model.trainable_variables] == expected


def test_the_mean_of_a_centred_head_is_not_trained():
    recipe = small_recipe(pool="avg")
    network = small_network(
        TrainingSettings(freeze_until="block2_pool"), recipe, small_head(recipe)
    )
    centred = small_network(
        TrainingSettings(freeze_until="block2_pool"), recipe, small_head(recipe, normalise="centre")
    )
    assert len(centred.tail.trainable_variables) == len(network.tail.trainable_variables) == 2


def test_weights_and_head_are_returned_as_they_were_given():
    recipe = small_recipe(pool="avg")
    head = small_head(recipe, hidden=(4,), normalise="centre")
    network = small_network(TrainingSettings(freeze_until="block1_pool"), recipe, head)
    for name, arrays in small_weights(recipe).items():
        for found, given in zip(vgg_weights(network)[name], arrays, strict=True):
            np.testing.assert_array_equal(found, given)
    assert list(vgg_weights(network)) == list(small_weights(recipe))
    now = network.current_head()
    for found, given in zip(
        (now.mean, *now.kernels, *now.biases),
        (head.mean, *head.kernels, *head.biases),
        strict=True,
    ):
        np.testing.assert_array_equal(found, given)


def test_a_head_in_bfloat16_is_float32():
    recipe = small_recipe(precision="bfloat16", pool="avg")
    head = small_head(recipe)
    network = small_network(
        TrainingSettings(freeze_until="block1_pool", augment="none"), recipe, head
    )
    images = noise_images(4)
    found = call(network.model, images)
    assert found.dtype == np.float32
    expected = logits_of(head, plain_codes(recipe, small_weights(recipe), images))
    assert 1e-6 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert all(variable.dtype == "float32" for variable in network.model.trainable_variables)


def test_layers_behind_the_network_cannot_be_frozen():
    with pytest.raises(OptionError, match="--freeze-until block4_pool"):
        small_network(TrainingSettings(freeze_until="block4_pool"))
