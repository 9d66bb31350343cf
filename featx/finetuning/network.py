"""The network that is trained: VGG19 up to a cut, a head, and where training begins.

A recipe, weights and a head come in; Keras models that share their layers go
out: one from images, which training sees augmented, and one from the last
frozen layer on, for activations that were computed before. It does not know
where images come from, and nothing here trains.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.finetuning.augmentation import augmentation_layers
from featx.finetuning.heads import Head, head_layers, read_head
from featx.finetuning.settings import Tuning
from featx.layers import layers_up_to
from featx.network import Device, arithmetic
from featx.network.backbone import keras_layer, preprocessed
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
        Of the codes that the head takes: one layer, where the network is cut.
    head : Head
        As it was at first.
    whole : keras.Model
        From images (n, h, w, 3), uint8 RGB, to logits (n, k), nothing augmented.
    augmented : keras.Model
        The same with augmentation first, which works in training only.
    tail : keras.Model or None
        From activations of the last frozen layer to logits; None where no layer
        is frozen.
    changes : keras.Model
        From images, uint8, to what augmentation makes of them in training,
        float32.
    start : keras.Model or None
        From images, float32, to the activations that the tail takes.
    layers : mapping of str to keras.Layer
        VGG19's by name, those with weights.
    head_layers : tuple of keras.Layer
        The head's.
    drawing : tuple of keras.Layer
        What draws random numbers: augmentation and dropout.
    device : Device
        Where it computes.
    """

    recipe: Recipe
    head: Head
    whole: Any
    augmented: Any
    tail: Any
    changes: Any
    start: Any
    layers: Mapping[str, Any]
    head_layers: tuple[Any, ...]
    drawing: tuple[Any, ...]
    device: Device

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute on the network's device, in the recipe's arithmetic, while a call runs."""
        with arithmetic(self.recipe.precision), self.device.scope():
            yield

    def weights(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return kernel and bias of each layer of VGG19, as they are now."""
        found = {}
        for name, layer in self.layers.items():
            kernel, bias = (np.asarray(array, np.float32) for array in layer.get_weights())
            found[name] = (kernel, bias)
        return found

    def head_now(self) -> Head:
        """Return the head as it is now."""
        return read_head(self.head, self.head_layers)


def build_network(
    recipe: Recipe, weights: Weights, head: Head, tuning: Tuning, device: Device
) -> Network:
    """Build VGG19 up to the layer of a recipe, with a head behind it.

    Parameters
    ----------
    recipe : Recipe
        One layer; size, preprocessing, pooling and arithmetic. In bfloat16 the
        weights stay float32, products are bfloat16 and the head is float32.
    weights : mapping of str to (kernel, bias)
        For every layer with weights up to that one.
    head : Head
        As wide as the codes.
    tuning : Tuning
        Which layers are frozen, augmentation and dropout.
    device : Device
        Where it computes.

    Raises
    ------
    OptionError
        The last frozen layer lies behind the cut.
    """
    import keras

    (cut,) = recipe.layers
    frozen = tuning.frozen(cut)
    dtype = "mixed_bfloat16" if recipe.precision == "bfloat16" else "float32"
    with device.scope():
        made = {layer.name: keras_layer(layer, dtype) for layer in layers_up_to(cut)}
        ends = head_layers(head, tuning.dropout)
        augment = augmentation_layers(tuning.augment, tuning.seed)

        def behind(x: Any, names: list[str]) -> Any:
            for name in names:
                if name == "fc1":
                    x = keras.layers.Flatten(data_format="channels_last", dtype=dtype)(x)
                x = made[name](x)
            return x

        def ended(x: Any) -> Any:
            x = pooled(x, recipe)
            for layer in ends:
                x = layer(x)
            return x

        images = keras.Input((*recipe.size, 3), dtype="uint8", name="images")
        names = list(made)
        activation = behind(preprocessed(images, recipe), names[: len(frozen)])
        whole = keras.Model(images, ended(behind(activation, names[len(frozen) :])), name="vgg19")
        changed = keras.ops.cast(images, "float32")
        for layer in augment:
            changed = layer(changed)
        changes = keras.Model(images, changed)
        augmented = keras.Model(images, ended(behind(preprocessed(changed, recipe), names)))
        tail = first = None
        if frozen:
            given = keras.Input((*recipe.size, 3), dtype="float32", name="changed")
            first = keras.Model(given, behind(preprocessed(given, recipe), names[: len(frozen)]))
            start = keras.Input(activation.shape[1:], dtype="float32", name=frozen[-1])
            tail = keras.Model(start, ended(behind(start, names[len(frozen) :])))
        for name, (kernel, bias) in weights.items():
            made[name].set_weights([kernel, bias])
    for name in frozen:
        made[name].trainable = False
    return Network(
        recipe=recipe,
        head=head,
        whole=whole,
        augmented=augmented,
        tail=tail,
        changes=changes,
        start=first,
        layers={name: layer for name, layer in made.items() if layer.weights},
        head_layers=tuple(ends),
        drawing=(*augment, *ends),
        device=device,
    )
