"""Augmentation: what it does to ramps, dots and colours, and that an epoch draws the same again."""

import colorsys
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from featx.choices import Augmentation
from featx.errors import OptionError
from featx.finetuning.augmentation import (
    augmentation_layers,
    reseed,
    seed_generators,
)

# Keras asks PyTorch's tensors for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 64
DRAWN = [name for name in get_args(Augmentation) if name != "none"]
#: Degrees, shares of a side, shares of a side.
RANGES = {"lecture": (30, 0.3, 0.3), "strong": (15, 0.1, 0.2)}


def make_images(n=8, height=20, width=24, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3)).astype(np.float32)


def run(layers, images, *, training=True):
    from keras import ops

    x = ops.convert_to_tensor(images)
    for layer in layers:
        x = layer(x, training=training)
    return ops.convert_to_numpy(x)


def named(layers, *parts):
    return [layer for layer in layers if layer.name.removeprefix("augment_") in parts]


# which


def test_none_is_the_identity():
    """There is nothing to call."""
    assert augmentation_layers("none", 0) == []


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_happens_outside_training(name):
    """Pictures come out as they went in, and nothing is drawn."""
    from keras import ops

    layers, images = augmentation_layers(name, 0), make_images()
    before = [ops.convert_to_numpy(g.state) for g in seed_generators(layers)]
    assert np.array_equal(run(layers, images, training=False), images)
    after = [ops.convert_to_numpy(g.state) for g in seed_generators(layers)]
    assert np.array_equal(before, after)
    assert not np.array_equal(run(layers, images), images)


def test_an_unknown_name_is_refused():
    """With those that there are."""
    message = (
        "No augmentation 'flop'. Did you mean 'flip'? Use --augment with one of none, flip, "
        "lecture, strong."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        augmentation_layers("flop", 0)


def test_flip_gives_the_picture_or_its_mirror():
    """About half of each, left to right, whatever a user's keras.json says."""
    import keras

    images = make_images(100)
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        found = run(augmentation_layers("flip", 0), images)
    finally:
        keras.config.set_image_data_format(before)
    mirrored = [np.array_equal(f, x[:, ::-1]) for f, x in zip(found, images, strict=True)]
    kept = [np.array_equal(f, x) for f, x in zip(found, images, strict=True)]
    assert 30 < sum(mirrored) < 70
    assert sum(mirrored) + sum(kept) == 100


# where pictures move


@pytest.mark.parametrize("name", ["lecture", "strong"])
def test_pictures_turn_shift_and_zoom_within_the_ranges(name):
    """Each pixel of a ramp says where it came from: a rotation times a shift times a zoom."""
    rotation, shift, zoom = RANGES[name]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    ramps = np.repeat(np.stack([x, y, 0 * x], axis=-1)[None], 100, axis=0)
    moved = run(named(augmentation_layers(name, 1), "flip", "rotation", "shift", "zoom"), ramps)
    # Places from the middle; the middle of a picture is never filled.
    middle = (SIDE - 1) / 2
    part = slice(SIDE // 2 - 3, SIDE // 2 + 3)
    to = np.stack([x[part, part], y[part, part]], axis=-1).reshape(-1, 2) - middle
    turns, zooms, shifts = [], [], []
    for picture in moved:
        origin = picture[part, part, :2].reshape(-1, 2) - middle
        found, residue, *_ = np.linalg.lstsq(np.column_stack([to, np.ones(len(to))]), origin)
        assert (residue < 1e-4).all()
        matrix, offset = found[:2].T.astype(np.float64), found[2].astype(np.float64)
        if np.linalg.det(matrix) < 0:  # it was mirrored first
            matrix, offset = np.diag([-1, 1]) @ matrix, offset * (-1, 1)
        sizes = np.linalg.norm(matrix, axis=0)
        turn = matrix / sizes
        np.testing.assert_allclose(turn.T @ turn, np.eye(2), atol=1e-3)  # no shear: zoom was last
        turns.append(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
        zooms.append(sizes - 1)
        shifts.append(turn.T @ offset / SIDE)
    zooms, shifts = np.array(zooms), np.array(shifts)
    for found, limit in ((np.array(turns), rotation), (zooms, zoom), (shifts, shift)):
        assert np.abs(found).max() <= limit * 1.001 + 1e-3
        assert (found.min(axis=0) < -0.85 * limit).all()
        assert (found.max(axis=0) > 0.85 * limit).all()
        assert np.abs(found.mean(axis=0) / limit).max() < 0.2
    # The sides are zoomed, and shifted, each for itself.
    assert abs(np.corrcoef(zooms.T)[0, 1]) < 0.3
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3


@pytest.mark.parametrize("name", ["lecture", "strong"])
def test_a_bright_dot_stays_near(name):
    """A dot in the middle moves by no more than the shift, seen through the zoom."""
    _, shift, zoom = RANGES[name]
    images = np.zeros((40, SIDE, SIDE, 3), np.float32)
    centre = slice(SIDE // 2 - 2, SIDE // 2 + 2)
    images[:, centre, centre] = 255
    moved = run(named(augmentation_layers(name, 0), "flip", "rotation", "shift", "zoom"), images)
    light = moved[..., 0]
    assert (light.sum(axis=(1, 2)) > 0).all()
    where = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    places = np.einsum("nij,aij->na", light, where) / light.sum(axis=(1, 2))[:, None]
    assert np.abs(places).max() <= shift / (1 - zoom) * SIDE + 1
    assert np.abs(places).max() > 0.85 * shift * SIDE


@pytest.mark.parametrize("name", ["lecture", "strong"])
def test_nothing_black_comes_in_from_outside(name):
    """What a picture moved away from is filled with the picture's own pixels."""
    images = np.full((50, 32, 40, 3), 200, np.float32)
    images[:, 1:-1, 1:-1] = 100
    moved = run(named(augmentation_layers(name, 0), "flip", "rotation", "shift", "zoom"), images)
    assert moved.min() > 99.9
    assert moved.max() < 200.1
    # The lecture continues the outermost pixels; strong mirrors, so that little is outermost.
    filled = np.mean(moved > 150)
    assert filled > 0.2 if name == "lecture" else filled < 0.125


# colours


def test_brightness_adds_and_contrast_multiplies():
    """The same for all pixels of a picture, both ways, as far as the ranges say."""
    layers = augmentation_layers("strong", 0)
    images = np.repeat(make_images(1) / 255 * 50 + 100, 300, axis=0)
    added = run(named(layers, "brightness"), images) - images
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-3
    assert -51.1 < added.min() < -45
    assert 45 < added.max() < 51.1
    mean = images[0].mean(axis=(0, 1))
    factors = (run(named(layers, "contrast"), images) - mean).std(axis=(1, 2, 3))
    factors /= (images[0] - mean).std()
    assert 0.799 < factors.min() < 0.82
    assert 1.18 < factors.max() < 1.201


def test_saturation_keeps_hue_and_grey():
    """Hue and luma stay; distance from grey grows or shrinks by up to 0.3; grey stays grey."""
    layer = named(augmentation_layers("strong", 0), "saturation")
    images = np.repeat(make_images(1, 6, 6) / 255 * 60 + 100, 200, axis=0)
    images[:, 0, 0] = 130
    found = run(layer, images)
    np.testing.assert_allclose(found[:, 0, 0], 130, atol=1e-3)
    luma = (0.299, 0.587, 0.114)
    np.testing.assert_allclose(found @ luma, images @ luma, atol=1e-2)
    for colour, before in zip(found[:5, 1, 1] / 255, images[:5, 1, 1] / 255, strict=True):
        hue = colorsys.rgb_to_hsv(*before)[0]
        assert colorsys.rgb_to_hsv(*colour)[0] == pytest.approx(hue, abs=1e-3)
    spread = np.ptp(found[:, 1, 1], axis=1) / np.ptp(images[0, 1, 1])
    assert 0.699 < spread.min() < 0.73
    assert 1.27 < spread.max() < 1.301


@pytest.mark.parametrize("name", DRAWN)
def test_numbers_stay_those_of_a_picture(name):
    """From 0 to 255 in float32, none of them nan, size and all, with the hardest colours too."""
    images = np.where(make_images(60) < 128, 0, 255).astype(np.float32)
    found = run(augmentation_layers(name, 0), images)
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 255.001


# the random state


@pytest.mark.parametrize("name", DRAWN)
def test_an_epoch_draws_the_same_again(name):
    """From seed and epoch alone, in these layers or new ones, whatever was drawn before."""
    images = make_images(16)
    layers = augmentation_layers(name, 3)
    first = run(layers, images)
    reseed(layers, 3, 0)
    assert np.array_equal(run(layers, images), first)
    assert not np.array_equal(run(layers, images), first)  # the next batch
    reseed(layers, 3, 7)
    seventh = [run(layers, images) for _ in range(2)]
    other = augmentation_layers(name, 0)
    run(other, images)
    reseed(other, 3, 7)
    assert np.array_equal([run(other, images) for _ in range(2)], seventh)
    for seed, epoch in ((3, 0), (3, 8), (4, 7), (7, 3)):
        reseed(layers, seed, epoch)
        assert not np.array_equal(run(layers, images), seventh[0])


def test_each_layer_draws_for_itself():
    """Even those made with one seed: states differ by layer, seed and epoch, and are no sums."""
    from keras import ops

    layers = augmentation_layers("strong", 0)
    states = []
    for seed in range(4):
        for epoch in range(4):
            reseed(layers, seed, epoch)
            states += [tuple(ops.convert_to_numpy(g.state)) for g in seed_generators(layers)]
    assert len(set(states)) == 4 * 4 * 7
    assert len({a + b for a, b in states}) == 4 * 4 * 7  # what PyTorch is seeded with
    assert max(map(max, states)) < 2**30


def test_the_generators_of_a_model_are_found():
    """Of augmentation and of dropout, in the order of the layers, also in models of models."""
    import keras

    drop, none = keras.layers.Dropout(0.5, seed=0), keras.layers.Dropout(0)
    layers = augmentation_layers("flip", 0)
    inner = keras.Sequential([keras.layers.Flatten(), none, drop, keras.layers.Dense(2)])
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, inner])
    expected = [layers[0].generator, drop.seed_generator]
    for found in (seed_generators(model.layers), seed_generators([*layers, inner])):
        assert [id(generator) for generator in found] == [id(e) for e in expected]
    before = model(make_images(4, 8, 8), training=True)
    reseed(model.layers, 0, 1)
    once = keras.ops.convert_to_numpy(model(make_images(4, 8, 8), training=True))
    reseed(model.layers, 0, 1)
    again = keras.ops.convert_to_numpy(model(make_images(4, 8, 8), training=True))
    assert np.array_equal(once, again)
    assert not np.array_equal(keras.ops.convert_to_numpy(before), once)


@pytest.mark.parametrize("name", DRAWN)
def test_a_compiled_model_augments_in_training_alone(name):
    """In fit, as the backend compiles it; and a new state reaches what was compiled."""
    import keras

    images = make_images(8, 16, 16)
    weights = np.random.default_rng(1).standard_normal((16 * 16 * 3, 1))
    weights = (weights - weights.mean()).astype(np.float32)
    layers = augmentation_layers(name, 0)
    dense = keras.layers.Dense(1, use_bias=False)
    inputs = keras.Input((16, 16, 3))
    model = keras.Sequential([inputs, *layers, keras.layers.Flatten(), dense])
    dense.set_weights([weights])
    model.compile(keras.optimizers.SGD(0.0), lambda y, found: found)

    def trained(epoch):
        reseed(layers, 0, epoch)
        history = model.fit(images, np.zeros(8), batch_size=4, shuffle=False, verbose=0).history
        return history["loss"][0]

    plain = images.reshape(8, -1) @ weights
    rounding = 1e-4 * np.abs(plain).max()
    np.testing.assert_allclose(model.predict(images, verbose=0), plain, rtol=0, atol=rounding)
    for epoch in (1, 2):
        found = trained(epoch)
        assert abs(found - plain.mean()) > 10 * rounding
        assert trained(3 - epoch) != found
        assert trained(epoch) == found
    np.testing.assert_allclose(model.predict(images, verbose=0), plain, rtol=0, atol=rounding)


# other backends


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_augment_alike(backend):
    """Tests of this file that the backend could break, under KERAS_BACKEND=jax and torch."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    tests = "mirror or ranges and lecture or saturation_keeps or of_a_model"
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", tests],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
