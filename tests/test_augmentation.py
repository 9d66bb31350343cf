"""Augmentation of ramps, dots and colours, and the random state of an epoch."""

import colorsys
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

# Keras converts PyTorch's tensors in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 64
DRAWN = [name for name in get_args(Augmentation) if name != "none"]
#: Rotation in degrees, shift and zoom as fractions of a side.
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


def test_none_is_the_identity():
    """It has no layers."""
    assert augmentation_layers("none", 0) == []


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_happens_outside_training(name):
    """Images do not change, and no random numbers are drawn."""
    from keras import ops

    layers, images = augmentation_layers(name, 0), make_images()
    before = [ops.convert_to_numpy(g.state) for g in seed_generators(layers)]
    assert np.array_equal(run(layers, images, training=False), images)
    after = [ops.convert_to_numpy(g.state) for g in seed_generators(layers)]
    assert np.array_equal(before, after)
    assert not np.array_equal(run(layers, images), images)


def test_an_unknown_name_is_refused():
    """The message has the most similar name and the flag."""
    with pytest.raises(OptionError, match=r"'flop'.*'flip'.*--augment"):
        augmentation_layers("flop", 0)


def test_flip_gives_the_image_or_its_mirror_image():
    """About half of each, left to right, whatever the settings of Keras are."""
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


# movements


@pytest.mark.parametrize("name", ["lecture", "strong"])
def test_images_are_rotated_shifted_and_zoomed_within_the_ranges(name):
    """Each pixel of a ramp holds its origin: a rotation times a shift times a zoom."""
    rotation, shift, zoom = RANGES[name]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    ramps = np.repeat(np.stack([x, y, 0 * x], axis=-1)[None], 100, axis=0)
    moved = run(named(augmentation_layers(name, 1), "flip", "rotation", "shift", "zoom"), ramps)
    # Positions relative to the centre, which is never filled.
    middle = (SIDE - 1) / 2
    part = slice(SIDE // 2 - 3, SIDE // 2 + 3)
    to = np.stack([x[part, part], y[part, part]], axis=-1).reshape(-1, 2) - middle
    turns, zooms, shifts = [], [], []
    for image in moved:
        origin = image[part, part, :2].reshape(-1, 2) - middle
        found, residue, *_ = np.linalg.lstsq(np.column_stack([to, np.ones(len(to))]), origin)
        assert (residue < 1e-4).all()
        matrix, offset = found[:2].T.astype(np.float64), found[2].astype(np.float64)
        if np.linalg.det(matrix) < 0:  # mirrored first
            matrix, offset = np.diag([-1, 1]) @ matrix, offset * (-1, 1)
        sizes = np.linalg.norm(matrix, axis=0)
        turn = matrix / sizes
        np.testing.assert_allclose(
            turn.T @ turn, np.eye(2), atol=1e-3
        )  # no shear, because the zoom is last
        turns.append(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
        zooms.append(sizes - 1)
        shifts.append(turn.T @ offset / SIDE)
    zooms, shifts = np.array(zooms), np.array(shifts)
    for found, limit in ((np.array(turns), rotation), (zooms, zoom), (shifts, shift)):
        assert np.abs(found).max() <= limit * 1.001 + 1e-3
        assert (found.min(axis=0) < -0.85 * limit).all()
        assert (found.max(axis=0) > 0.85 * limit).all()
        assert np.abs(found.mean(axis=0) / limit).max() < 0.2
    # Both sides are zoomed and shifted independently.
    assert abs(np.corrcoef(zooms.T)[0, 1]) < 0.3
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3


@pytest.mark.parametrize("name", ["lecture", "strong"])
def test_a_bright_dot_stays_near(name):
    """A dot in the centre moves by at most the shift, scaled by the zoom."""
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
def test_uncovered_pixels_are_not_black(name):
    """They are filled with pixels of the image."""
    images = np.full((50, 32, 40, 3), 200, np.float32)
    images[:, 1:-1, 1:-1] = 100
    moved = run(named(augmentation_layers(name, 0), "flip", "rotation", "shift", "zoom"), images)
    assert moved.min() > 99.9
    assert moved.max() < 200.1
    # "lecture" repeats the outermost pixels; "strong" mirrors, so few of them appear.
    filled = np.mean(moved > 150)
    assert filled > 0.2 if name == "lecture" else filled < 0.125


# colours


def test_brightness_adds_and_contrast_multiplies():
    """The change is one number for all pixels of an image, within the ranges."""
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
    """Hue and luma stay; the distance from grey changes by up to 0.3."""
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
def test_values_stay_in_range(name):
    """From 0 to 255 in float32, for saturated colours too."""
    images = np.where(make_images(60) < 128, 0, 255).astype(np.float32)
    found = run(augmentation_layers(name, 0), images)
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 255.001


# the random state


@pytest.mark.parametrize("name", DRAWN)
def test_an_epoch_can_be_repeated(name):
    """Its random numbers depend only on the seed and the number of the epoch."""
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


def test_layers_have_different_states():
    """States differ by layer, seed and epoch, and so do their sums."""
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
    """In the order of the layers."""
    import keras

    drop, none = keras.layers.Dropout(0.5, seed=0), keras.layers.Dropout(0)
    layers = augmentation_layers("flip", 0)
    inner = [keras.layers.Flatten(), none, drop, keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, *inner])
    expected = [layers[0].generator, drop.seed_generator]
    assert [id(generator) for generator in seed_generators(model.layers)] == list(map(id, expected))
    before = model(make_images(4, 8, 8), training=True)
    reseed(model.layers, 0, 1)
    once = keras.ops.convert_to_numpy(model(make_images(4, 8, 8), training=True))
    reseed(model.layers, 0, 1)
    again = keras.ops.convert_to_numpy(model(make_images(4, 8, 8), training=True))
    assert np.array_equal(once, again)
    assert not np.array_equal(keras.ops.convert_to_numpy(before), once)


@pytest.mark.parametrize("name", DRAWN)
def test_a_compiled_model_augments_in_training_only(name):
    """In fit, as the backend compiles it; a new random state is used."""
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
