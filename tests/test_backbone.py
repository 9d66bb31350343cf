"""VGG19 up to a layer, and its preprocessing, compared with those of Keras."""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from pooling import plainly_pooled

from featx.errors import CodeRangeError
from featx.layers import LAYERS, activation_shape, layers_up_to, weight_shapes
from featx.network import Device, VGG19Backbone, backbone, find_device
from featx.network.backbone import joint_name
from featx.network.compiling import _Switch
from featx.recipe import Recipe

# Relative rounding error of bfloat16, which has 8 bits.
BFLOAT16 = 2.0**-8

CPU = Device("cpu", 0, "CPU", bfloat16=True, tf32=False)
# A CPU that claims TF32, so that the switches can be tested without a GPU.
LIKE_AMPERE = dataclasses.replace(CPU, tf32=True)

CONV_AND_POOL = tuple(layer.name for layer in LAYERS if layer.kind != "dense")


def random_weights(name, scale=0.1):
    """Draw weights of every layer up to `name` that keep activations finite."""
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
    """The codes of all 21 layers from one pass equal keras.applications.VGG19."""
    import keras

    weights = random_weights("block5_conv4")
    recipe = Recipe(weights="test", layers=CONV_AND_POOL, size=(32, 48))
    codes = VGG19Backbone(recipe, weights)(images)
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    expected = keras_activations(keras_vgg19(weights, (32, 48)), CONV_AND_POOL, prepared)
    for name, activation in zip(CONV_AND_POOL, expected, strict=True):
        assert codes[name].dtype == np.float32
        assert codes[name].shape == (2, *activation_shape(name, (32, 48)))
        assert np.abs(codes[name] - activation).max() <= 1e-5 * np.abs(activation).max()


def test_preprocess_caffe_equals_keras(images):
    """The input of the first convolution equals Keras's preprocess_input."""
    import keras

    # An identity kernel returns the preprocessed image; the bias keeps it above 0 for ReLU.
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.full(64, 200, "f4")
    kernel[1, 1, range(3), range(3)] = 1
    recipe = Recipe(weights="test", layers=("block1_conv1",), size=(32, 48))
    codes = VGG19Backbone(recipe, {"block1_conv1": (kernel, bias)})(images)["block1_conv1"]
    expected = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    np.testing.assert_allclose(codes[..., :3] - 200, expected, atol=2e-5)


def test_preprocess_unit_is_rgb_over_255(images):
    """With --preprocess unit the input is RGB / 255."""
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.zeros(64, "f4")
    kernel[1, 1, range(3), range(3)] = 1
    recipe = Recipe(weights="test", layers=("block1_conv1",), size=(32, 48), preprocess="unit")
    codes = VGG19Backbone(recipe, {"block1_conv1": (kernel, bias)})(images)["block1_conv1"]
    np.testing.assert_allclose(codes[..., :3], images / 255, rtol=1e-6)


def test_the_callers_images_are_not_changed(images):
    """Keras's preprocessing overwrites its input, but that of featx does not."""
    before = images.copy()
    recipe = Recipe(weights="test", layers=("block1_pool",), size=(32, 48))
    VGG19Backbone(recipe, random_weights("block1_pool"))(images)
    assert np.array_equal(images, before)


POOLS = ("avg", "max", "avg+max", "grid:1", "grid:2", "grid:5", "grid:8")


@pytest.mark.parametrize("size", [(32, 48), (33, 47)], ids=["even", "odd"])
def test_pooling_equals_numpy(size):
    """Feature maps of even and odd sizes are pooled as in NumPy."""
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    layers = ("block1_conv2", "block2_pool")
    recipes = [small(layers=layers, size=size, pool=pool) for pool in ("none", *POOLS)]
    codes = joint(recipes, random_weights("block2_pool"))(images)
    for index, recipe in enumerate(recipes):
        for name in layers:
            found = codes[joint_name(index, name)]
            assert found.dtype == np.float32
            assert found.shape == (2, *recipe.code_shape(name))
            expected = plainly_pooled(codes[joint_name(0, name)], recipe.pool)
            np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(7, 10), (12, 12), (13, 8), (9, 9), (8, 15)])
def test_every_grid_equals_numpy(size):
    """Grids of every possible size equal NumPy, with equal and with overlapping cells."""
    maps = np.random.default_rng(0).normal(0, 1, (2, *size, 3)).astype("f4")
    for n_cells in range(1, min(size) + 1):
        recipe = Recipe(weights="t", layers=("block1_conv1",), size=size, pool=f"grid:{n_cells}")
        found = np.asarray(backbone.pooled(maps, recipe))
        assert found.shape == (2, n_cells, n_cells, 3)
        np.testing.assert_allclose(found, plainly_pooled(maps, recipe.pool), rtol=1e-5, atol=1e-6)


def test_a_grid_of_one_cell_is_the_mean(images):
    """The pooling grid:1 equals avg with another shape."""
    weights = random_weights("block1_pool")
    grid, avg = (VGG19Backbone(small("block1_pool", pool=p), weights) for p in ("grid:1", "avg"))
    found, expected = grid(images)["block1_pool"], avg(images)["block1_pool"]
    assert (found.shape, expected.shape) == ((2, 1, 1, 64), (2, 64))
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("pool", ["avg", "avg+max", "grid:2"])
def test_fully_connected_layers_are_not_pooled(pool):
    """The activation of a fully connected layer is returned unchanged."""
    activation = np.random.default_rng(0).random((2, 4096)).astype("f4")
    recipe = Recipe(weights="t", layers=("fc1",), pool=pool)
    assert backbone.pooled(activation, recipe) is activation


@pytest.mark.parametrize("pool", ["none", "avg+max", "grid:4", "grid:5"])
def test_a_code_does_not_depend_on_its_batch(images, pool):
    """A code is the same bit for bit in any batch, so that resumed runs are exact."""
    recipe = Recipe(weights="t", layers=("block2_pool",), size=(32, 48), pool=pool)
    backbone = VGG19Backbone(recipe, random_weights("block2_pool"))
    alone = backbone(images[:1])["block2_pool"][0]
    padded = backbone(np.concatenate([np.zeros((5, 32, 48, 3), "u1"), images]))["block2_pool"][5]
    assert np.array_equal(alone, padded)


@pytest.mark.slow
def test_fully_connected_layers_equal_keras():
    """The layers fc1 and fc2 equal Keras's VGG19 with top, with pooling too."""
    import keras

    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    weights = random_weights("fc2")
    recipe = Recipe(weights="t", layers=("fc1", "fc2"), pool="avg")
    codes = VGG19Backbone(recipe, weights)(images)
    prepared = keras.applications.vgg19.preprocess_input(images.astype("f4"))
    model = keras_vgg19(weights, (224, 224), top=True)
    for name, expected in zip(
        ("fc1", "fc2"), keras_activations(model, ("fc1", "fc2"), prepared), strict=True
    ):
        assert codes[name].shape == (1, 4096)
        np.testing.assert_allclose(codes[name], expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.shared
def test_real_weights_equal_keras_at_224(shared):
    """With the original weights at 224, every conv and pool layer equals Keras to 1e-5."""
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


def small(layer="block1_conv1", **settings):
    """Return a recipe for the images of these tests."""
    return Recipe(**{"weights": "t", "layers": (layer,), "size": (32, 48), **settings})


def joint(recipes, weights):
    """Build one backbone for several recipes, which takes less time than one for each."""
    return VGG19Backbone(recipes, weights)


def distance(codes, expected):
    """Return the norm of the difference, relative to the norm of the expected codes."""
    difference = np.asarray(codes, np.float64) - expected
    return np.linalg.norm(difference) / np.linalg.norm(np.asarray(expected, np.float64))


def in_bfloat16(array):
    return array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def computed_in_bfloat16(name, weights, images):
    """Compute VGG19 in NumPy with factors and activations in bfloat16 and exact sums."""
    x = in_bfloat16(images[..., ::-1] - np.array([103.939, 116.779, 123.68]))
    for layer in layers_up_to(name):
        n, height, width, channels = x.shape
        if layer.kind == "pool":
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
            continue
        kernel, bias = map(in_bfloat16, weights[layer.name])
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = bias + sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )
        x = in_bfloat16(np.maximum(x, 0))
    return x


def test_bfloat16_equals_numpy(images):
    """With bfloat16, only factors and activations are rounded to bfloat16.

    Without bfloat16 instructions the bias is added after the sum was rounded, so each layer
    rounds twice.
    """
    weights = random_weights("block2_pool")
    codes = VGG19Backbone(small("block2_pool", precision="bfloat16"), weights)(images)
    found = codes["block2_pool"]
    assert found.dtype == np.float32
    bound = BFLOAT16 / 4 if find_device("cpu").bfloat16 else 2 * BFLOAT16
    assert distance(found, computed_in_bfloat16("block2_pool", weights, images)) < bound


def test_bfloat16_is_pooled_in_float32(images):
    """Means over positions are computed in float32."""
    pools = ("none", "avg", "avg+max", "grid:2", "grid:5")
    recipes = [small("block1_conv2", precision="bfloat16", pool=pool) for pool in pools]
    codes = joint(recipes, random_weights("block1_conv2"))(images)
    for index, pool in enumerate(pools):
        expected = plainly_pooled(codes["0/block1_conv2"], pool)
        np.testing.assert_allclose(codes[f"{index}/block1_conv2"], expected, rtol=1e-5)


@pytest.mark.parametrize("device", [CPU, dataclasses.replace(CPU, kind="gpu", description="T4")])
def test_bfloat16_without_instructions_is_a_warning(caplog, device):
    """Emulated bfloat16 works with a warning; with instructions there is none."""
    caplog.set_level(logging.WARNING, "featx")
    backbone._check_precision("bfloat16", device)
    backbone._check_precision("float32", dataclasses.replace(device, bfloat16=False))
    assert not caplog.messages
    backbone._check_precision("bfloat16", dataclasses.replace(device, bfloat16=False))
    (message,) = caplog.messages
    assert "--precision bfloat16" in message
    assert device.description in message


def test_each_call_sets_its_arithmetic(images):
    """TF32 is switched on and off for each call of several backbones in one process."""
    import tensorflow as tf

    weights = random_weights("block1_conv1")
    tf32 = VGG19Backbone(small(precision="tf32"), weights, LIKE_AMPERE)
    exact = VGG19Backbone(small(), weights, LIKE_AMPERE)
    rounded = VGG19Backbone(small(precision="bfloat16"), weights, LIKE_AMPERE)
    is_on = tf.config.experimental.tensor_float_32_execution_enabled
    for made, expected in ((tf32, True), (exact, False), (tf32, True), (rounded, False)):
        made(images)
        assert is_on() == expected


def test_calls_with_another_precision_wait():
    """Calls that need the same switch overlap, and others wait for them."""
    switch, states = _Switch(), []
    inside = threading.Barrier(3, timeout=10)

    def alike():
        with switch.set(True, states.append):
            inside.wait()  # both are inside at once
            time.sleep(0.2)
            states.append("alike ends")

    def other():
        inside.wait()
        with switch.set(False, states.append):
            states.append("other runs")

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(alike), threads.submit(alike), threads.submit(other)]:
            done.result(timeout=20)
    assert states == [True, True, "alike ends", "alike ends", False, "other runs"]


def test_a_call_that_fails_lets_others_in():
    """The switch is released after an error."""
    switch = _Switch()
    with contextlib.suppress(KeyError), switch.set(True, bool):
        raise KeyError
    with ThreadPoolExecutor(1) as threads:

        def other():
            with switch.set(False, bool):
                return True

        assert threads.submit(other).result(timeout=10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float16_codes_are_the_float32_codes_rounded(images, precision):
    """The network rounds codes to float16 as NumPy does."""
    layers = ("block1_conv1", "block1_pool")
    pools = ("none", "avg", "avg+max", "grid:5")
    recipes = [small(layers=layers, pool=pool, precision=precision) for pool in pools]
    recipes += [dataclasses.replace(recipe, dtype="float16") for recipe in recipes]
    codes = joint(recipes, random_weights("block1_pool"))(images)
    for index in range(len(pools)):
        for layer in layers:
            half = codes[joint_name(index + len(pools), layer)]
            assert half.dtype == np.float16
            assert np.array_equal(half, codes[joint_name(index, layer)].astype(np.float16))


def constant(value, **settings):
    """Build a backbone with a kernel of zeros and one bias, which is then its largest code."""
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.full(64, 1, "f4")
    bias[5] = value
    return VGG19Backbone(small(**settings), {"block1_conv1": (kernel, bias)})


@pytest.mark.parametrize("pool", ["none", "avg", "max", "avg+max", "grid:2"])
def test_codes_that_float16_cannot_hold_are_refused(images, pool):
    """A code that rounds to infinity is an error; one that rounds to 65504 is not."""
    held = constant(65519, dtype="float16", pool=pool)(images)["block1_conv1"]
    assert held.max() == 65504
    with pytest.raises(CodeRangeError) as caught:
        constant(65520, dtype="float16", pool=pool)(images)
    assert (caught.value.layer, caught.value.value) == ("block1_conv1", 65520)
    assert constant(65520, pool=pool)(images)["block1_conv1"].max() == 65520


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_network_without_numbers_is_another_error(images, value):
    """Values that are infinite in float32 are not reported as errors of float16."""
    codes = constant(value, dtype="float16")(images)["block1_conv1"]
    assert not np.isfinite(codes).all() or np.isnan(value)  # ReLU may make NaN a number


def test_two_threads_may_call_at_once(images):
    """Four threads with different images and batch sizes get the right codes."""
    weights = random_weights("block1_pool")
    made = VGG19Backbone(small("block1_pool"), weights)
    batches = [np.concatenate([images + np.uint8(k)] * (1 + k % 3)) for k in range(24)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(made, batches))
    alone = VGG19Backbone(small("block1_pool"), weights)
    for batch, codes in zip(batches, found, strict=True):
        assert np.array_equal(codes["block1_pool"], alone(batch)["block1_pool"])


DEVICES = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_backbone import random_weights, small
from featx.network import Device, VGG19Backbone, compiling
import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)

images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
weights = random_weights("block1_conv2")
seen = []

class Watched:
    def __getattr__(self, name):
        return getattr(np, name)
    def asarray(self, tensor):
        committed = getattr(tensor, "committed", True)
        seen.append((str(tensor.device).upper()[-5:].replace("CPU_", "CPU:"), committed))
        return np.asarray(tensor)

compiling.np = Watched()
codes = []
for index in (1, 0):
    device = Device("cpu", index, f"CPU:{index}", bfloat16=True, tf32=False)
    made = VGG19Backbone(small("block1_conv2"), weights, device)
    codes.append(made(images)["block1_conv2"])
    print(seen.pop(), [str(v.value.device).upper()[-5:].replace("CPU_", "CPU:")
                       for v in made._layers["block1_conv1"].variables][0])
print(np.array_equal(*codes))
compiling.np = np
"""
EXPECTED_DEVICES = ["('CPU:1', True) CPU:1", "('CPU:0', True) CPU:0", "True"]

# Continues DEVICES.
MEMORY = """
import threading, time
from pathlib import Path
from featx.network import activation_bytes
from featx.recipe import Recipe

def anonymous():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])

recipe = Recipe(weights="t", layers=("block2_pool",))
run = VGG19Backbone(recipe, random_weights("block2_pool"))
run(np.zeros((1, 224, 224, 3), np.uint8))
before = peak = anonymous()
caller = threading.Thread(target=run, args=(np.zeros((4, 224, 224, 3), np.uint8),))
caller.start()
while caller.is_alive():
    peak = max(peak, anonymous())
    time.sleep(0.0005)
print(4 * activation_bytes(recipe) / (peak - before))
"""


@pytest.mark.slow
def test_devices_and_memory_of_tensorflow():
    """Codes are computed on the chosen device, and the estimate of memory is right to 1.5."""
    has_proc = Path("/proc/self/status").exists()
    lines = in_another_process(DEVICES + MEMORY * has_proc, "tensorflow")
    assert lines[:3] == EXPECTED_DEVICES
    assert all(1 / 1.5 < float(ratio) < 1.5 for ratio in lines[3:])
    assert len(lines) == 3 + has_proc


def in_another_process(code, backend, *arguments):
    """Run code with a backend that finds two CPUs, and return the lines that it prints."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", code, os.fspath(Path(__file__).parent), *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flags},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()


OTHER = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_backbone import LIKE_AMPERE, OTHER_RECIPES, constant, joint, random_weights, small
from featx.errors import CodeRangeError
from featx.network import VGG19Backbone
import keras

weights = random_weights("block2_pool")
images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
codes = {}
for number, recipes in enumerate(OTHER_RECIPES):
    made = joint(recipes, weights)
    first = made(images)
    kept = {name: code.copy() for name, code in first.items()}
    made(images[::-1].copy())
    assert all(np.array_equal(first[name], kept[name]) for name in first)
    codes |= {f"{number}/{name}": code for name, code in first.items()}
np.savez(sys.argv[2], **codes)

try:
    constant(65520, dtype="float16")(images)
    raise AssertionError
except CodeRangeError as error:
    assert error.value == 65520

# The precision of each call, as set in the backend.
set_to = []
if keras.backend.backend() == "jax":
    import jax
    set_precision = jax.default_matmul_precision
    jax.default_matmul_precision = lambda name: set_to.append(name) or set_precision(name)
weights = random_weights("block1_conv1")
tf32 = VGG19Backbone(small(precision="tf32"), weights, LIKE_AMPERE)
exact = VGG19Backbone(small(), weights, LIKE_AMPERE)
for made, name in ((tf32, "tensorfloat32"), (exact, "highest")) * 2:
    made(images)
    if keras.backend.backend() == "torch":
        import torch
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert found == (name == "tensorfloat32",) * 2
assert set_to == (["tensorfloat32", "highest"] if keras.backend.backend() == "jax" else [])
"""

# Recipes that one network can compute together.
OTHER_RECIPES = (
    (
        small(layers=("block1_conv2", "block2_pool"), pool="avg"),
        # The cells of this grid overlap vertically and not horizontally.
        small(layers=("block1_conv2", "block2_pool"), pool="grid:3"),
        small("block2_pool", pool="grid:4"),
        small("block2_pool", pool="avg+max"),
    ),
    (
        small("block2_pool", precision="bfloat16"),
        small("block2_pool", precision="bfloat16", pool="avg", dtype="float16"),
        small("block2_pool", precision="bfloat16", pool="grid:2", dtype="float16"),
    ),
    (
        small("block2_pool", pool="bilinear", flip=True),
        small(layers=("block1_conv2", "block2_pool"), flip=True),
    ),
    # Compiled for squares of 64 pixels, but called with images of 32 x 48.
    (small("block2_pool", pool="max", scales=(32, 64), flip=True),),
)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_the_same_codes(backend, images, tmp_path):
    """JAX and PyTorch compute the codes of TensorFlow, to 1e-5 or to a few bits of bfloat16."""
    code = OTHER + (DEVICES if backend == "jax" else "")
    lines = in_another_process(code, backend, tmp_path / "codes.npz")
    if backend == "jax":
        assert lines == EXPECTED_DEVICES
    found = np.load(tmp_path / "codes.npz")
    weights = random_weights("block2_pool")
    for number, recipes in enumerate(OTHER_RECIPES):
        for name, expected in joint(recipes, weights)(images).items():
            codes = found[f"{number}/{name}"]
            assert codes.dtype == expected.dtype
            if recipes[0].precision == "float32":
                assert np.abs(codes - expected).max() <= 1e-5 * expected.max()
            else:  # one of them rounds before the bias is added, the other after it
                assert distance(codes, expected.astype(np.float64)) < 4 * BFLOAT16


OUT_OF_MEMORY = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_backbone import constant
import torch

def fail(images):
    torch.empty(2**50)

def fail_on_gpu(images):
    raise torch.OutOfMemoryError("CUDA out of memory.")

made = constant(1)
for made._runs[32, 48] in (fail, fail_on_gpu):
    try:
        made(np.zeros((2, 32, 48, 3), np.uint8))
        raise AssertionError
    except MemoryError:
        pass
"""


def test_other_backends_memory_errors_of_torch():
    """The errors of PyTorch for too little memory, on the CPU and on GPUs, are recognised."""
    in_another_process(OUT_OF_MEMORY, "torch")
