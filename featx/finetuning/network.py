"""The network that is trained: VGG19 up to a layer, and a head on its codes.

A recipe, weights and a head come in; Keras models that share their layers go out: for
images, for augmented images, and for activations of the last frozen layer. This file does
not know where images come from, and does not train.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.finetuning.augmentation import augmentation_layers
from featx.finetuning.heads import Head, head_layers, read_head
from featx.finetuning.settings import TrainingSettings
from featx.layers import layers_up_to
from featx.network import Device
from featx.network.backbone import keras_layer, preprocessed
from featx.network.compiling import arithmetic
from featx.network.pooling import pooled
from featx.recipe import Recipe

__all__ = ["Network"]

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Network:
    """VGG19 up to the layer of a recipe, and a head, as models that share their layers.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the codes that the head takes, of one layer, the last of VGG19. With
        bfloat16 the weights stay float32, products are bfloat16, and the head is float32.
    weights : mapping of str to (kernel, bias)
        Weights of every layer that has some, up to the recipe's layer.
    head : Head
        The initial head, for codes of the recipe.
    settings : TrainingSettings
        Frozen layers, augmentation and dropout.
    device : Device
        Where the network computes.

    Attributes
    ----------
    model : keras.Model
        From images (n, h, w, 3), uint8 RGB, to logits (n, k), without augmentation.
    training_model : keras.Model
        The same with augmentation, which changes images in training only.
    augment : keras.Model
        From images, uint8, to augmented images, float32.
    frozen_part : keras.Model or None
        From images, float32, to activations of the last frozen layer; None if no layer is
        frozen.
    tail : keras.Model or None
        From activations of the last frozen layer to logits; None if no layer is frozen.
    random_layers : tuple of keras.Layer
        The layers that draw random numbers: augmentation and dropout.

    Raises
    ------
    OptionError
        The last frozen layer comes after the recipe's layer.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Weights,
        head: Head,
        settings: TrainingSettings,
        device: Device,
    ) -> None:
        import keras

        self.recipe, self.head, self.device = recipe, head, device
        (cut,) = recipe.layers
        frozen = settings.frozen(cut)
        dtype = "mixed_bfloat16" if recipe.precision == "bfloat16" else "float32"

        def through(x: Any, layers: Iterable[Any]) -> Any:
            for layer in layers:
                if layer.name == "fc1":
                    x = keras.layers.Flatten(data_format="channels_last", dtype=dtype)(x)
                x = layer(x)
            return x

        with device.scope():
            made = [keras_layer(layer, dtype) for layer in layers_up_to(cut)]
            first, rest = made[: len(frozen)], made[len(frozen) :]
            of_head = head_layers(head, settings.dropout)
            of_augmentation = augmentation_layers(settings.augment, settings.seed)
            self.random_layers = (*of_augmentation, *of_head)

            def to_logits(x: Any) -> Any:
                return through(pooled(through(x, rest), recipe), of_head)

            images = keras.Input((*recipe.size, 3), dtype="uint8", name="images")
            activation = through(preprocessed(images, recipe), first)
            self.model = keras.Model(images, to_logits(activation), name="vgg19")
            changed = through(keras.ops.cast(images, "float32"), of_augmentation)
            self.augment = keras.Model(images, changed)
            from_changed = through(preprocessed(changed, recipe), first)
            self.training_model = keras.Model(images, to_logits(from_changed))
            self.tail: Any = None
            self.frozen_part: Any = None
            if frozen:
                given = keras.Input((*recipe.size, 3), dtype="float32", name="changed")
                self.frozen_part = keras.Model(given, through(preprocessed(given, recipe), first))
                start = keras.Input(activation.shape[1:], dtype="float32", name=frozen[-1])
                self.tail = keras.Model(start, to_logits(start))
            for layer in made:
                if layer.name in weights:
                    layer.set_weights(weights[layer.name])
        for layer in first:
            layer.trainable = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute on the network's device, with the recipe's precision."""
        with arithmetic(self.recipe.precision), self.device.scope():
            yield

    def current_head(self) -> Head:
        """Return the head with its current weights."""
        return read_head(self.head, self.model.layers)
