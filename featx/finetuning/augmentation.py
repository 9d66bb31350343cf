"""Augmentation: random changes to training images, as Keras layers on the device.

A name comes in; layers go out that turn images into others of the same size,
in training only. Beside them the random state of any Keras layers: what an
epoch draws follows from a seed and the epoch's number alone, so that a run
that was killed goes on as one that was not.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from featx.choices import Augmentation, check_choice, choices_of

__all__ = ["augmentation_layers", "reseed", "seed_generators"]

#: What `--augment` names.

# Grey by the weights of Rec. ITU-R BT.601, as Pillow's mode "L" has them.
_GREY = (0.299, 0.587, 0.114)


def augmentation_layers(name: str, seed: int) -> list[Any]:
    """Return Keras layers that change images at random, in training only.

    Parameters
    ----------
    name : {"none", "flip", "lecture", "strong"}
        - none: no layer;
        - flip: half of the images are mirrored, left to right. For all but
          writing, and pictures where left and right differ;
        - lecture: flip, and as Keras's ImageDataGenerator has them rotation to
          30 degrees, shifts to 0.3 of a side, zoom of each side from 0.7 to 1.3;
        - strong: flip, rotation to 15 degrees, shifts to 0.1, zoom from 0.8
          to 1.2; brightness to 0.2 of the range, contrast from 0.8 to 1.2,
          saturation from 0.7 to 1.3. For many epochs.
    seed : int
        Of what is drawn before the first `reseed`.

    Returns
    -------
    list of keras.Layer
        Named augment_flip, augment_rotation and so on; to be called one after
        another on RGB images of shape (n, h, w, 3), float32 from 0 to 255. Say
        `training=True` or False in every call: Keras's own layers take it as
        True where nothing is said.

    Raises
    ------
    OptionError
        There is no such augmentation.

    Notes
    -----
    What a picture moves away from has to be filled. Black would be an edge
    that no photo has, and the other side's pixels are from elsewhere. The
    lecture's pictures are continued by their outermost pixels, as it does;
    the strong ones are mirrored at the border, which keeps their texture.
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
            # A pair: of one number Keras makes 1 to 1.2.
            _maker(layers.RandomContrast, "contrast", (0.2, 0.2)),
            functools.partial(_saturation_layer(), 0.3, dtype="float32", name="augment_saturation"),
        ]
    made = [make(seed=seed + k) for k, make in enumerate(makers)]
    reseed(made, seed, epoch=0)
    return made


def seed_generators(layers: Iterable[Any]) -> list[Any]:
    """Return the random state of layers, in their order, models' layers included.

    Returns
    -------
    list of keras.random.SeedGenerator
        Of augmentation and dropout; other layers have none.
    """
    found = []
    for layer in layers:
        if hasattr(layer, "layers"):
            found += seed_generators(layer.layers)
            continue
        # Keras's preprocessing layers use the first name, its Dropout the second.
        for name in ("generator", "seed_generator"):
            generator = getattr(layer, name, None)
            if generator is not None:
                found.append(generator)
    return found


def reseed(layers: Sequence[Any], seed: int, epoch: int) -> None:
    """Set the random state of layers for an epoch, whatever was drawn before.

    Parameters
    ----------
    layers : sequence of keras.Layer
        The same in the same order for every epoch. Keras's Dropout needs a seed
        when it is made: without one it draws elsewhere on PyTorch.
    seed, epoch : int
        Not negative.
    """
    for index, generator in enumerate(seed_generators(layers)):
        # Mixed, so that seed 1 of epoch 2 is not seed 2 of epoch 1. 30 bits: the state is a pair
        # of int32 on some backends, PyTorch's is their sum, and the second counts the draws.
        words = np.random.SeedSequence([seed, epoch, index]).generate_state(2) >> 2
        generator.state.assign(words.astype(np.int32))


def _moves(*, rotation: float, shift: float, zoom: float, fill_mode: str) -> list[Any]:
    """Return what makes layers that turn, shift and zoom a picture, in degrees and shares.

    In the order of ImageDataGenerator, whose matrices are a rotation times a
    shift times a zoom; and a zoom that comes last cuts off what was filled.
    """
    from keras import layers

    turn = rotation / 360  # Keras counts in full turns
    return [
        _maker(layers.RandomRotation, "rotation", turn, fill_mode),
        _maker(layers.RandomTranslation, "shift", shift, shift, fill_mode),
        _maker(layers.RandomZoom, "zoom", zoom, zoom, fill_mode),  # each side for itself
    ]


def _maker(layer: Callable[..., Any], name: str, *settings: object) -> Callable[..., Any]:
    """Return what makes a layer from a seed."""
    # A user's keras.json may set another data format or float type, so both are said here.
    fixed = {"data_format": "channels_last", "dtype": "float32", "name": f"augment_{name}"}
    return functools.partial(layer, *settings, **fixed)


@functools.cache
def _saturation_layer() -> Any:
    """Return a layer class that mixes images with their grey ones.

    Keras has one since 3.8; at its default range it makes negative numbers of
    saturated colours, and it draws outside training too.
    """
    import keras
    from keras import ops

    @keras.saving.register_keras_serializable("featx")
    class RandomSaturation(keras.layers.Layer):  # type: ignore[misc]
        """Multiplies the distance from grey by 1 - factor to 1 + factor."""

        def __init__(self, factor: float, seed: int | None = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor = factor
            self.seed = seed
            self.generator = keras.random.SeedGenerator(seed)

        def call(self, images: Any, training: bool = True) -> Any:
            if not training:
                return images
            share = keras.random.uniform(
                (ops.shape(images)[0], 1, 1, 1),
                1 - self.factor,
                1 + self.factor,
                dtype="float32",
                seed=self.generator,
            )
            grey = ops.sum(images * ops.convert_to_tensor(_GREY, "float32"), axis=-1, keepdims=True)
            return ops.clip(grey + share * (images - grey), 0.0, 255.0)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor, "seed": self.seed}

    return RandomSaturation
