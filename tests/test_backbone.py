"""The truncated VGG19 against Keras's own, and preprocessing against Keras's function."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from featx.layers import LAYERS, activation_shape, layers_up_to, weight_shapes
from featx.network import build_backbone
from featx.recipe import Recipe

CONV_AND_POOL = tuple(layer.name for layer in LAYERS if layer.kind != "dense")


def random_weights(name, scale=0.1):
    """Weights of every layer up to `name`, small enough that activations stay finite."""
    rng = np.random.default_rng(7)
    found = {}
    for layer in layers_up_to(name):
        shapes = weight_shapes(layer.name)
        if shapes is not None:
            kernel = rng.normal(0, np.sqrt(2 / np.prod(shapes[0][:-1])), shapes[0])
            found[layer.name] = (kernel.astype("f4"), rng.normal(0, scale, shapes[1]).astype("f4"))
    return found


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


def keras_vgg19(weights, size, *, top=False):
    import keras

    model = keras.applications.VGG19(weights=None, include_top=top, input_shape=(*size, 3))
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(list(arrays))
    return model


def keras_activations(model, names, images):
    import keras

    tapped = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return [np.asarray(a) for a in tapped(np.array(images))]


def test_every_conv_and_pool_layer_equals_keras(images):
    """Codes of all 21 layers, from one pass, are those of keras.applications.VGG19."""
    import keras

    weights = random_weights("block5_conv4")
    recipe = Recipe(weights="test", layers=CONV_AND_POOL, size=(32, 48))
    codes = build_backbone(recipe, weights)(images)
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    expected = keras_activations(keras_vgg19(weights, (32, 48)), CONV_AND_POOL, prepared)
    for name, activation in zip(CONV_AND_POOL, expected, strict=True):
        assert codes[name].dtype == np.float32
        assert codes[name].shape == (2, *activation_shape(name, (32, 48)))
        assert np.abs(codes[name] - activation).max() <= 1e-5 * np.abs(activation).max()


def test_preprocess_caffe_equals_keras(images):
    """What the first convolution sees is Keras's preprocess_input of the image."""
    import keras

    # An identity kernel shows the preprocessed image; a bias keeps ReLU from cutting it.
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.full(64, 200, "f4")
    kernel[1, 1, range(3), range(3)] = 1
    recipe = Recipe(weights="test", layers=("block1_conv1",), size=(32, 48))
    codes = build_backbone(recipe, {"block1_conv1": (kernel, bias)})(images)["block1_conv1"]
    expected = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    np.testing.assert_allclose(codes[..., :3] - 200, expected, atol=2e-5)


def test_preprocess_unit_is_rgb_over_255(images):
    """With --preprocess unit the network sees RGB / 255, channels in order."""
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.zeros(64, "f4")
    kernel[1, 1, range(3), range(3)] = 1
    recipe = Recipe(weights="test", layers=("block1_conv1",), size=(32, 48), preprocess="unit")
    codes = build_backbone(recipe, {"block1_conv1": (kernel, bias)})(images)["block1_conv1"]
    np.testing.assert_allclose(codes[..., :3], images / 255, rtol=1e-6)


def test_the_callers_images_are_untouched(images):
    """Keras's own preprocessing writes over its input; featx's does not."""
    before = images.copy()
    recipe = Recipe(weights="test", layers=("block1_pool",), size=(32, 48))
    build_backbone(recipe, random_weights("block1_pool"))(images)
    assert np.array_equal(images, before)


@pytest.mark.parametrize(("pool", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooling_equals_numpy(images, pool, reduce):
    """Pooling inside the graph is the mean or maximum over the places."""
    weights = random_weights("block2_pool")
    layers = ("block1_conv2", "block2_pool")
    whole = build_backbone(Recipe(weights="t", layers=layers, size=(32, 48)), weights)(images)
    recipe = Recipe(weights="t", layers=layers, size=(32, 48), pool=pool)
    pooled = build_backbone(recipe, weights)(images)
    for name in layers:
        expected = reduce(whole[name].astype("f8"), axis=(1, 2))
        assert pooled[name].shape == (2, whole[name].shape[-1])
        np.testing.assert_allclose(pooled[name], expected, rtol=1e-5)


def test_a_code_does_not_depend_on_its_batch(images):
    """Alone, among others, or padded with black: the same bits, so that a resumed run is exact."""
    recipe = Recipe(weights="t", layers=("block2_pool",), size=(32, 48))
    backbone = build_backbone(recipe, random_weights("block2_pool"))
    alone = backbone(images[:1])["block2_pool"][0]
    padded = backbone(np.concatenate([np.zeros((5, 32, 48, 3), "u1"), images]))["block2_pool"][5]
    assert np.array_equal(alone, padded)


@pytest.mark.slow
def test_fully_connected_layers_equal_keras():
    """fc1 and fc2 are those of Keras's VGG19 with top; pooling leaves them alone."""
    import keras

    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    weights = random_weights("fc2")
    recipe = Recipe(weights="t", layers=("fc1", "fc2"), pool="avg")
    codes = build_backbone(recipe, weights)(images)
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    model = keras_vgg19(weights, (224, 224), top=True)
    for name, expected in zip(
        ("fc1", "fc2"), keras_activations(model, ("fc1", "fc2"), prepared), strict=True
    ):
        assert codes[name].shape == (1, 4096)
        np.testing.assert_allclose(codes[name], expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.shared
def test_real_weights_equal_keras_at_224(shared):
    """With the original weights at 224, every conv and pool layer equals Keras's to 1e-5."""
    import keras

    from featx.network import find_weights, load_backbone

    file = shared / "weights" / "vgg19_notop_rebuilt.h5"
    image = next((shared / "data" / "hymenoptera" / "val" / "bees").iterdir())
    images = np.asarray(keras.utils.load_img(image, target_size=(224, 224)), np.uint8)[None]
    model = keras.applications.VGG19(weights=None, include_top=False, input_shape=(224, 224, 3))
    model.load_weights(file)
    source = find_weights(str(file), CONV_AND_POOL)
    codes = load_backbone(Recipe(weights=source.identity, layers=CONV_AND_POOL), source)(images)
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    expected = keras_activations(model, CONV_AND_POOL, prepared)
    for name, activation in zip(CONV_AND_POOL, expected, strict=True):
        assert np.abs(codes[name] - activation).max() <= 1e-5 * np.abs(activation).max(), name


PARITY = """
import sys
import numpy as np
from featx.network import build_backbone
from featx.recipe import Recipe

given = np.load(sys.argv[1])
weights = {
    name: (given[name + "/kernel"], given[name + "/bias"])
    for name in ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2")
}
recipe = Recipe(weights="t", layers=("block1_conv2", "block2_pool"), size=(32, 48), pool="avg")
np.savez(sys.argv[2], **build_backbone(recipe, weights)(given["images"]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same_codes(backend, images, tmp_path):
    """Under KERAS_BACKEND=jax or torch the codes are TensorFlow's to 1e-5."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    weights = random_weights("block2_pool")
    given = {"images": images}
    for name, (kernel, bias) in weights.items():
        given |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    np.savez(tmp_path / "given.npz", **given)
    subprocess.run(
        [sys.executable, "-c", PARITY, tmp_path / "given.npz", tmp_path / "codes.npz"],
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    recipe = Recipe(weights="t", layers=("block1_conv2", "block2_pool"), size=(32, 48), pool="avg")
    expected = build_backbone(recipe, weights)(images)
    found = np.load(tmp_path / "codes.npz")
    for name in recipe.layers:
        assert np.abs(found[name] - expected[name]).max() <= 1e-5 * expected[name].max()
