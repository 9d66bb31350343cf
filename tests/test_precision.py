"""The network's arithmetic: what is refused, how far bfloat16 is from float32, what is kept."""

import importlib.util
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_backbone import random_weights

from featx.errors import CodeRangeError, OptionError
from featx.network import Device, activation_bytes, build_backbone
from featx.recipe import Recipe

CPU = Device("cpu", 0, "CPU", bfloat16=True, tf32=False)
LAYERS = ("block1_conv2", "block2_pool")


def recipe_of(**facts):
    return Recipe(**{"weights": "t", "layers": LAYERS, "size": (32, 48), **facts})


@pytest.fixture(scope="module")
def weights():
    return random_weights("block2_pool")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def message_of(call, kind=OptionError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_tf32_is_refused_where_there_is_none(weights):
    """It is arithmetic of GPUs; the CPU would silently do something else."""
    assert message_of(lambda: build_backbone(recipe_of(precision="tf32"), weights, CPU)) == (
        "tf32 is arithmetic of NVIDIA's GPUs from Ampere on; this runs on the CPU. "
        "Use --precision float32 or bfloat16."
    )


def test_imitated_bfloat16_is_said(weights, caplog):
    """A processor without such instructions computes it, and the user is told what that costs."""
    old = Device("cpu", 0, "CPU", bfloat16=False, tf32=False)
    with caplog.at_level(logging.WARNING):
        build_backbone(recipe_of(precision="bfloat16"), weights, old)
        build_backbone(recipe_of(precision="bfloat16"), weights, CPU)
    assert [record.getMessage() for record in caplog.records] == [
        "This CPU has no bfloat16 instructions (AVX-512 BF16, AMX): --precision bfloat16 is "
        "emulated there, and slower than float32."
    ]


def relative(found, expected):
    return np.linalg.norm(found.astype("f8") - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("pool", ["none", "avg", "max"])
def test_bfloat16_is_near_float32_and_equals_keras(weights, images, pool):
    """Within a few units of its 8 bits of float32, and within two of Keras's own bfloat16."""
    import keras

    exact = build_backbone(recipe_of(pool=pool), weights, CPU)(images)
    codes = build_backbone(recipe_of(pool=pool, precision="bfloat16"), weights, CPU)(images)
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


def test_two_precisions_in_one_process_stay_what_they_are(weights, images):
    """Switches that a backend keeps for the whole process are set again at each call."""
    exact = build_backbone(recipe_of(), weights, CPU)
    before = exact(images)["block2_pool"].copy()
    build_backbone(recipe_of(precision="bfloat16"), weights, CPU)(images)
    assert np.array_equal(exact(images)["block2_pool"], before)


def test_float16_codes_are_float32_codes_rounded(weights, images):
    """They leave the graph as float16, rounded as NumPy does."""
    exact = build_backbone(recipe_of(), weights, CPU)(images)
    codes = build_backbone(recipe_of(dtype="float16"), weights, CPU)(images)
    assert set(codes) == set(LAYERS)
    for name in LAYERS:
        assert codes[name].dtype == np.float16
        assert np.array_equal(codes[name], exact[name].astype("f2"))


@pytest.mark.parametrize(
    ("value", "refused"), [(65504.0, False), (65519.0, False), (65520.0, True), (1e6, True)]
)
def test_a_code_too_large_for_float16(value, refused):
    """What would round to infinity is refused with the layer and the value, and nothing else."""
    kernel, bias = np.zeros((3, 3, 3, 64), "f4"), np.zeros(64, "f4")
    bias[5] = value
    recipe = Recipe(weights="t", layers=("block1_conv1",), size=(32, 32), dtype="float16")
    backbone = build_backbone(recipe, {"block1_conv1": (kernel, bias)}, CPU)
    black = np.zeros((1, 32, 32, 3), np.uint8)
    if refused:
        assert message_of(lambda: backbone(black), CodeRangeError) == (
            f"A code of block1_conv1 is {value:.6g}; float16 holds at most 65504. "
            "Use --dtype float32 --overwrite."
        )
    else:
        assert np.isfinite(backbone(black)["block1_conv1"]).all()


def test_codes_stay_what_they_are_while_others_are_computed(weights, images):
    """They are looked at where the backend keeps them, which it does not use again meanwhile."""
    backbone = build_backbone(recipe_of(), weights, CPU)
    kept = [backbone(images[::step]) for step in (1, -1)]
    copies = [{k: v.copy() for k, v in codes.items()} for codes in kept]
    for seed in range(10):
        backbone(np.random.default_rng(seed).integers(0, 256, images.shape, dtype=np.uint8))
    for codes, copied in zip(kept, copies, strict=True):
        assert all(np.array_equal(codes[name], copied[name]) for name in LAYERS)


def test_two_threads_at_once(weights, images):
    """Each gets the codes of its own images."""
    backbone = build_backbone(recipe_of(), weights, CPU)
    batches = [images, images[::-1].copy()]
    expected = [backbone(batch)["block2_pool"].copy() for batch in batches]
    wrong = []

    def work(k):
        for _ in range(20):
            if not np.array_equal(backbone(batches[k])["block2_pool"], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def out_of_memory():
    import tensorflow as tf

    yield tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    if importlib.util.find_spec("jax"):
        import jax

        yield jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
    if importlib.util.find_spec("torch"):
        import torch

        yield torch.OutOfMemoryError("CUDA out of memory.")
        yield RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def test_each_backends_word_for_too_little_memory(weights, images, monkeypatch):
    """They all become MemoryError; another error stays what it is."""
    backbone = build_backbone(recipe_of(), weights, CPU)

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
    """Three maps of block 1 at 224: 38.5 MB, half of it in bfloat16."""
    recipe = Recipe(weights="t", layers=("block5_pool",), pool="avg")
    assert activation_bytes(recipe) == 3 * 4 * 224 * 224 * 64 + 512 * 4
    half = Recipe(weights="t", layers=("block5_pool",), pool="avg", precision="bfloat16")
    assert activation_bytes(half) == 3 * 2 * 224 * 224 * 64 + 512 * 4


BFLOAT16 = """
import sys
import numpy as np
from featx.network import build_backbone, find_device
from featx.recipe import Recipe
from test_backbone import random_weights

images = np.load(sys.argv[1])
recipe = Recipe(
    weights="t", layers=("block2_pool",), size=(32, 48), precision="bfloat16", dtype="float16"
)
backbone = build_backbone(recipe, random_weights("block2_pool"), find_device("cpu"))
np.save(sys.argv[2], backbone(images)["block2_pool"])
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_bfloat16_of_other_backends(backend, weights, images, tmp_path):
    """Under JAX and PyTorch bfloat16 is as near to float32, and leaves as float16."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    np.save(tmp_path / "images.npy", images)
    here = os.path.dirname(__file__)  # noqa: PTH120  for PYTHONPATH
    subprocess.run(
        [sys.executable, "-c", BFLOAT16, tmp_path / "images.npy", tmp_path / "codes.npy"],
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": here},
    )
    exact = build_backbone(recipe_of(), weights, CPU)(images)["block2_pool"]
    codes = np.load(tmp_path / "codes.npy")
    assert codes.dtype == np.float16
    assert 0 < relative(codes, exact) < 4 * 2.0**-8
