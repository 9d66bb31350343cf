"""Precision of the network: errors, bfloat16 compared with Keras, and memory."""

import importlib.util

import numpy as np
import pytest
from running import MeanColour
from test_backbone import random_weights

from featx.errors import OptionError
from featx.extraction.batching import Batcher
from featx.network import Device, VGG19Backbone, activation_bytes
from featx.network.devices import memory_errors
from featx.recipe import Recipe

CPU = Device("cpu", 0, "CPU", bfloat16=True, tf32=False)
LAYERS = ("block1_conv2", "block2_pool")


def recipe_of(**settings):
    return Recipe(**{"weights": "t", "layers": LAYERS, "size": (32, 48), **settings})


@pytest.fixture(scope="module")
def weights():
    return random_weights("block2_pool")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def test_tf32_needs_a_gpu(weights):
    """The CPU cannot compute TF32, so it is refused there."""
    with pytest.raises(OptionError, match=r"--precision tf32.*CPU"):
        VGG19Backbone(recipe_of(precision="tf32"), weights, CPU)


def relative(found, expected):
    return np.linalg.norm(found.astype("f8") - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("pool", ["none", "avg", "max"])
def test_bfloat16_is_near_float32_and_equals_keras(weights, images, pool):
    """Codes in bfloat16 are near those in float32, and nearer to bfloat16 in Keras."""
    import keras

    exact = VGG19Backbone(recipe_of(pool=pool), weights, CPU)(images)
    codes = VGG19Backbone(recipe_of(pool=pool, precision="bfloat16"), weights, CPU)(images)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 48, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(list(arrays))
    tapped = keras.Model(model.input, [model.get_layer(name).output for name in LAYERS])
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    reduce = {"none": lambda x: x, "avg": lambda x: x.mean((1, 2)), "max": lambda x: x.max((1, 2))}
    for name, activation in zip(LAYERS, tapped(prepared), strict=True):
        assert codes[name].dtype == np.float32
        assert 0 < relative(codes[name], exact[name]) < 4 * 2.0**-8
        same = reduce[pool](np.asarray(keras.ops.cast(activation, "float32")))
        assert relative(codes[name], same) < 2 * 2.0**-8


def test_two_precisions_in_one_process_do_not_interact(weights, images):
    """Switches of the whole process are set again for each call."""
    exact = VGG19Backbone(recipe_of(), weights, CPU)
    before = exact(images)["block2_pool"].copy()
    VGG19Backbone(recipe_of(precision="bfloat16"), weights, CPU)(images)
    assert np.array_equal(exact(images)["block2_pool"], before)


def test_codes_do_not_change_while_others_are_computed(weights, images):
    """The backend does not reuse the memory of codes that are still referenced."""
    backbone = VGG19Backbone(recipe_of(), weights, CPU)
    kept = [backbone(images[::step]) for step in (1, -1)]
    copies = [{k: v.copy() for k, v in codes.items()} for codes in kept]
    for seed in range(10):
        backbone(np.random.default_rng(seed).integers(0, 256, images.shape, dtype=np.uint8))
    for codes, copied in zip(kept, copies, strict=True):
        assert all(np.array_equal(codes[name], copied[name]) for name in LAYERS)


def out_of_memory():
    import tensorflow as tf

    yield tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    yield tf.errors.InternalError(None, None, "Dst tensor is not initialized.")
    yield tf.errors.NotFoundError(None, None, "No algorithm worked!  Error messages: …")
    if importlib.util.find_spec("jax"):
        import jax

        yield jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
    if importlib.util.find_spec("torch"):
        import torch

        yield torch.OutOfMemoryError("CUDA out of memory.")
        yield RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def test_each_backends_error_for_too_little_memory(weights, images, monkeypatch):
    """Errors for too little memory become MemoryError, and others are not changed."""
    backbone = VGG19Backbone(recipe_of(), weights, CPU)

    def failing(error):
        def run(images):
            raise error

        return run

    for error in out_of_memory():
        monkeypatch.setitem(backbone._runs, images.shape[1:3], failing(error))
        with pytest.raises(MemoryError):
            backbone(images)
    monkeypatch.setitem(backbone._runs, images.shape[1:3], failing(ValueError("other")))
    with pytest.raises(ValueError, match=r"^other$"):
        backbone(images)


def test_the_memory_of_an_image_is_estimated():
    """The estimate is 2.5 feature maps of block 1: 32.1 MB, and half of it in bfloat16."""
    recipe = Recipe(weights="t", layers=("block5_pool",), pool="avg")
    assert activation_bytes(recipe) == 2.5 * 4 * 224 * 224 * 64 + 512 * 4
    half = Recipe(weights="t", layers=("block5_pool",), pool="avg", precision="bfloat16")
    assert activation_bytes(half) == 2.5 * 2 * 224 * 224 * 64 + 512 * 4


@pytest.mark.parametrize(
    "text",
    [
        "Failed to allocate 1073741824 bytes for new constant",
        "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_an_error_is_of_memory_only_if_fewer_images_work(text, caplog):
    """If a smaller batch works, it is used from then on; if none does, the error is raised."""

    class Refusing(MeanColour):
        def __init__(self, recipe, most):
            super().__init__(recipe)
            self.most = most

        def __call__(self, images):
            self.shapes.append(images.shape)
            with memory_errors(len(images)):
                if len(images) > self.most:
                    raise RuntimeError(text)
            return super().__call__(images)

    recipe = Recipe(weights="t", layers=("block1_pool",), pool="avg", size=(32, 32))
    views = [(np.full((32, 32, 3), k, np.uint8),) for k in range(8)]
    batcher = Batcher(Refusing(recipe, 2), 8)
    expected = Batcher(MeanColour(recipe), 8)(views)["block1_pool"]
    np.testing.assert_array_equal(batcher(views)["block1_pool"], expected)
    assert batcher.batch_size == 2
    assert [record.args for record in caplog.records] == [(8, 2)]
    with pytest.raises(RuntimeError, match=text[:10]) as caught:
        Batcher(Refusing(recipe, 0), 8)(views)
    assert type(caught.value) is RuntimeError
