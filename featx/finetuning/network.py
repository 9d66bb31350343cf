"""The network that is trained: VGG19 up to a layer, and a head on its codes.

A recipe, weights and a head come in; Keras models that share their layers go out: for
images, for augmented images, and for activations of the last frozen layer. This file does
not know where images come from, and does not train.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

__all__ = ["Network", "build_network"]

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Network:
    """VGG19 with a head, as models that share their layers; `build_network` makes it.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the codes that the head takes, of one layer, the last of VGG19.
    head : Head
        The initial head.
    model : keras.Model
        From images (n, h, w, 3), uint8 RGB, to logits (n, k), without augmentation.
    training_model : keras.Model
        The same with augmentation, which changes images in training only.
    tail : keras.Model or None
        From activations of the last frozen layer to logits; None if no layer is frozen.
    augment : keras.Model
        From images, uint8, to augmented images, float32.
    frozen_part : keras.Model or None
        From images, float32, to activations of the last frozen layer.
    layers : mapping of str to keras.Layer
        The layers of VGG19 that have weights, by name.
    head_layers : tuple of keras.Layer
        The layers of the head.
    random_layers : tuple of keras.Layer
        The layers that draw random numbers: augmentation and dropout.
    device : Device
        Where the network computes.
    """

    recipe: Recipe
    head: Head
    model: Any
    training_model: Any
    tail: Any
    augment: Any
    frozen_part: Any
    layers: Mapping[str, Any]
    head_layers: tuple[Any, ...]
    random_layers: tuple[Any, ...]
    device: Device

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute on the network's device, with the recipe's precision."""
        with arithmetic(self.recipe.precision), self.device.scope():
            yield

    def weights(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return the current kernel and bias of each layer of VGG19."""
        found = {}
        for name, layer in self.layers.items():
            kernel, bias = (np.asarray(array, np.float32) for array in layer.get_weights())
            found[name] = (kernel, bias)
        return found

    def current_head(self) -> Head:
        """Return the head with its current weights."""
        return read_head(self.head, self.head_layers)


def build_network(
    recipe: Recipe, weights: Weights, head: Head, settings: TrainingSettings, device: Device
) -> Network:
    """Build VGG19 up to the layer of a recipe, and add a head.

    Parameters
    ----------
    recipe : Recipe
        Layer, size, preprocessing, pooling and precision. With bfloat16 the weights stay
        float32, products are bfloat16, and the head is float32.
    weights : mapping of str to (kernel, bias)
        Weights of every layer that has some, up to the recipe's layer.
    head : Head
        A head for codes of the recipe.
    settings : TrainingSettings
        Frozen layers, augmentation and dropout.
    device : Device
        Where the network computes.

    Raises
    ------
    OptionError
        The last frozen layer is behind the recipe's layer.
    """
    import keras

    (cut,) = recipe.layers
    frozen = settings.frozen(cut)
    dtype = "mixed_bfloat16" if recipe.precision == "bfloat16" else "float32"
    with device.scope():
        made = {layer.name: keras_layer(layer, dtype) for layer in layers_up_to(cut)}
        of_head = head_layers(head, settings.dropout)
        of_augmentation = augmentation_layers(settings.augment, settings.seed)
        first, rest = list(made)[: len(frozen)], list(made)[len(frozen) :]

        def through(x: Any, names: list[str]) -> Any:
            for name in names:
                if name == "fc1":
                    x = keras.layers.Flatten(data_format="channels_last", dtype=dtype)(x)
                x = made[name](x)
            return x

        def to_logits(x: Any) -> Any:
            x = pooled(x, recipe)
            for layer in of_head:
                x = layer(x)
            return x

        images = keras.Input((*recipe.size, 3), dtype="uint8", name="images")
        activation = through(preprocessed(images, recipe), first)
        model = keras.Model(images, to_logits(through(activation, rest)), name="vgg19")
        changed = keras.ops.cast(images, "float32")
        for layer in of_augmentation:
            changed = layer(changed)
        augment = keras.Model(images, changed)
        training_model = keras.Model(
            images, to_logits(through(preprocessed(changed, recipe), [*first, *rest]))
        )
        tail = frozen_part = None
        if frozen:
            given = keras.Input((*recipe.size, 3), dtype="float32", name="changed")
            frozen_part = keras.Model(given, through(preprocessed(given, recipe), first))
            start = keras.Input(activation.shape[1:], dtype="float32", name=frozen[-1])
            tail = keras.Model(start, to_logits(through(start, rest)))
        for name, (kernel, bias) in weights.items():
            made[name].set_weights([kernel, bias])
    for name in frozen:
        made[name].trainable = False
    return Network(
        recipe=recipe,
        head=head,
        model=model,
        training_model=training_model,
        tail=tail,
        augment=augment,
        frozen_part=frozen_part,
        layers={name: layer for name, layer in made.items() if layer.weights},
        head_layers=tuple(of_head),
        random_layers=(*of_augmentation, *of_head),
        device=device,
    )
