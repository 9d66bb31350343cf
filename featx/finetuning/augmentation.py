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

    makers: list[Callable[..., Any]] = []
    if name != "none":
        makers.append(_maker(layers.RandomFlip, "flip", "horizontal"))
    if name == "lecture":
        makers += _moves(rotation=30, shift=0.3, zoom=0.3, fill_mode="nearest")
    if name == "strong":
        makers += _moves(rotation=15, shift=0.1, zoom=0.2, fill_mode="reflect")
        makers += [
            _maker(layers.RandomBrightness, "brightness", 0.2),
            # Keras takes a single number as a range from 1 to 1.2.
            _maker(layers.RandomContrast, "contrast", (0.2, 0.2)),
            functools.partial(_saturation_layer(), 0.3, dtype="float32", name="augment_saturation"),
        ]
    made = [make(seed=seed + k) for k, make in enumerate(makers)]
    reseed(made, seed, epoch=0)
    return made


def seed_generators(layers: Iterable[Any]) -> list[Any]:
    """Return the random states of layers, including those inside models, in order."""
    found = []
    for layer in layers:
        if hasattr(layer, "layers"):
            found += seed_generators(layer.layers)
            continue
        # Keras's preprocessing layers have the first name, Dropout the second.
        for name in ("generator", "seed_generator"):
            generator = getattr(layer, name, None)
            if generator is not None:
                found.append(generator)
    return found


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


def _moves(*, rotation: float, shift: float, zoom: float, fill_mode: str) -> list[Any]:
    """Return makers of layers that rotate, shift and zoom, in ImageDataGenerator's order.

    `rotation` is in degrees, the others are fractions. The zoom is last, because it can cut
    off the filled pixels.
    """
    from keras import layers

    turn = rotation / 360  # Keras expects a fraction of a full turn
    return [
        _maker(layers.RandomRotation, "rotation", turn, fill_mode),
        _maker(layers.RandomTranslation, "shift", shift, shift, fill_mode),
        _maker(layers.RandomZoom, "zoom", zoom, zoom, fill_mode),  # each side independently
    ]


def _maker(layer: Callable[..., Any], name: str, *settings: object) -> Callable[..., Any]:
    """Return a function that makes a layer from a seed."""
    # A user's keras.json may set another data format or float type.
    fixed = {"data_format": "channels_last", "dtype": "float32", "name": f"augment_{name}"}
    return functools.partial(layer, *settings, **fixed)


@functools.cache
def _saturation_layer() -> Any:
    """Return a layer class that changes the saturation of images.

    Keras's own one, since 3.8, returns negative values for saturated colours, and changes
    images outside training too.
    """
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable("featx")
    class RandomSaturation(keras.layers.Layer):  # type: ignore[misc]
        """Multiply the distance from grey by a random number from 1 - factor to 1 + factor."""

        def __init__(self, factor: float, seed: int | None = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor = factor
            self.seed = seed
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

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor, "seed": self.seed}

    return RandomSaturation
