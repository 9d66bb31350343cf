"""Augmentation: random changes to training images, as Keras layers on the device.

The name of an augmentation comes in; Keras layers go out that change images in training
only. The random state of layers is set here too: the random numbers of an epoch depend only
on the seed and the epoch's number, so a resumed run draws the same ones.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from featx.choices import Augmentation, check_choice, choices_of

__all__ = ["augmentation_layers", "reseed", "seed_generators"]

# Weights of Rec. ITU-R BT.601 for grey, as in Pillow's mode "L".
_GREY = (0.299, 0.587, 0.114)
# Rotation in degrees, shift and zoom as fractions of a side, and how uncovered parts are filled.
_MOVES = {"lecture": (30, 0.3, 0.3, "nearest"), "strong": (15, 0.1, 0.2, "reflect")}


def augmentation_layers(name: str, seed: int) -> list[Any]:
    """Return Keras layers that change images at random, in training only.

    Parameters
    ----------
    name : {"none", "flip", "lecture", "strong"}
        - none: no layer.
        - flip: half of the images are mirrored left to right. Not for writing, or other
          images whose class depends on left and right.
        - lecture: flip, and as in Keras's ImageDataGenerator rotation by up to 30 degrees,
          shifts by up to 0.3 of a side, and zoom of each side from 0.7 to 1.3.
        - strong: flip, rotation by up to 15 degrees, shifts by up to 0.1, zoom from 0.8 to
          1.2; brightness by up to 0.2 of the range, contrast from 0.8 to 1.2, saturation
          from 0.7 to 1.3. For many epochs.
    seed : int
        Random seed until the first `reseed`.

    Returns
    -------
    list of keras.Layer
        Layers named augment_flip, augment_rotation and so on, to call one after another on
        RGB images of shape (n, h, w, 3), float32 from 0 to 255. Pass `training` in every
        call, because Keras's own layers take it as True by default.

    Raises
    ------
    OptionError
        `name` is unknown.

    Notes
    -----
    Rotation and shifts uncover part of an image, which has to be filled. Black would be an
    edge that no photo has. "lecture" repeats the outermost pixels, and "strong" mirrors the
    image at its border, which keeps the texture.
    """
    check_choice("augment", name, choices_of(Augmentation))
    from keras import layers

    made: list[Any] = []

    def add(layer: Callable[..., Any], kind: str, *settings: object, **how: str) -> None:
        # A user's keras.json may set another float type.
        how |= {"dtype": "float32", "name": f"augment_{kind}"}
        made.append(layer(*settings, seed=seed + len(made), **how))

    # A user's keras.json may set another data format.
    last = {"data_format": "channels_last"}
    if name != "none":
        add(layers.RandomFlip, "flip", "horizontal", **last)
    if name in _MOVES:
        rotation, shift, zoom, fill_mode = _MOVES[name]
        turn = rotation / 360  # Keras expects a fraction of a full turn
        # The order of ImageDataGenerator: the zoom is last, because it can cut off the filled
        # pixels. Each side is zoomed independently.
        add(layers.RandomRotation, "rotation", turn, fill_mode, **last)
        add(layers.RandomTranslation, "shift", shift, shift, fill_mode, **last)
        add(layers.RandomZoom, "zoom", zoom, zoom, fill_mode, **last)
    if name == "strong":
        add(layers.RandomBrightness, "brightness", 0.2, **last)
        # Keras takes a single number as a range from 1 to 1.2.
        add(layers.RandomContrast, "contrast", (0.2, 0.2), **last)
        add(_saturation_layer(), "saturation", 0.3)
    reseed(made, seed, epoch=0)
    return made


def seed_generators(layers: Iterable[Any]) -> list[Any]:
    """Return the random states of layers, in order."""
    # Keras's preprocessing layers have the first name, Dropout the second.
    names = ("generator", "seed_generator")
    found = (getattr(layer, name, None) for layer in layers for name in names)
    return [generator for generator in found if generator is not None]


def reseed(layers: Sequence[Any], seed: int, epoch: int) -> None:
    """Set the random states of layers for an epoch.

    Parameters
    ----------
    layers : sequence of keras.Layer
        The same layers in the same order for every epoch. With PyTorch, a Dropout that was
        made without a seed ignores its state.
    seed, epoch : int
        Random seed and number of the epoch, 0 or more.
    """
    for index, generator in enumerate(seed_generators(layers)):
        # SeedSequence mixes the numbers, so that seed 1 of epoch 2 is not seed 2 of epoch 1. 30
        # bits, because the state is a pair of int32, of which PyTorch uses the sum, and the
        # second is also a counter.
        words = np.random.SeedSequence([seed, epoch, index]).generate_state(2) >> 2
        generator.state.assign(words.astype(np.int32))


@functools.cache
def _saturation_layer() -> Any:
    """Return a layer class that changes the saturation of images.

    Keras's own one, since 3.8, returns negative values for saturated colours, and changes
    images outside training too.
    """
    import keras
    from keras import ops

    class RandomSaturation(keras.layers.Layer):  # type: ignore[misc]
        """Multiply the distance from grey by a random number from 1 - factor to 1 + factor."""

        def __init__(self, factor: float, seed: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor = factor
            self.generator = keras.random.SeedGenerator(seed)

        def call(self, images: Any, training: bool = True) -> Any:
            if not training:
                return images
            scale = keras.random.uniform(
                (ops.shape(images)[0], 1, 1, 1),
                1 - self.factor,
                1 + self.factor,
                dtype="float32",
                seed=self.generator,
            )
            grey = ops.sum(images * ops.convert_to_tensor(_GREY, "float32"), axis=-1, keepdims=True)
            return ops.clip(grey + scale * (images - grey), 0.0, 255.0)

    return RandomSaturation
