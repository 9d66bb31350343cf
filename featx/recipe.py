"""The recipe: the facts that determine a code's numbers, and nothing else.

Settings come in and are checked; a frozen, flat value goes out that every
store and every bundle carries. A fact belongs here if changing it changes the
codes. Who made them, when, on which device and in what batches is provenance,
kept beside the recipe and never compared. This file knows no file and no
TensorFlow.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from featx.errors import OptionError
from featx.layers import LAYERS, activation_shape, find_layer

__all__ = [
    "Difference",
    "Dtype",
    "Jpeg",
    "Pool",
    "Precision",
    "Preprocess",
    "Recipe",
    "Resize",
    "image_size",
]

#: One of these words, or "grid:N", which no Literal can spell; `Recipe` checks it.
Pool = Literal["none", "avg", "max", "avg+max"] | str
Resize = Literal["squash", "crop", "pad"]
Jpeg = Literal["reduced", "full"]
Preprocess = Literal["caffe", "unit"]
Precision = Literal["float32", "tf32", "bfloat16"]
Dtype = Literal["float32", "float16"]

# Ten times what any camera's picture has to be for VGG19; beyond, memory fails without a word.
_LARGEST_SIDE = 10_000

# One spelling for each number: a recipe of grid:02 would differ from the same one of grid:2.
_POOL = re.compile(r"none|avg|max|avg\+max|grid:[1-9][0-9]{0,4}")

_CHOICES: dict[str, tuple[str, ...]] = {
    "resize": get_args(Resize),
    "jpeg": get_args(Jpeg),
    "preprocess": get_args(Preprocess),
    "precision": get_args(Precision),
    "dtype": get_args(Dtype),
}


@dataclass(frozen=True)
class Difference:
    """One field in which two recipes differ.

    Parameters
    ----------
    field : str
        Name of the field; the command line's flag has the same name.
    received, expected : str
        Both values, as the command line spells them.
    """

    field: str
    received: str
    expected: str

    def __str__(self) -> str:
        return f"{self.field} is {self.received}, expected {self.expected}"

    @property
    def flag(self) -> str:
        """What to type to get the expected value."""
        if self.field == "layers":
            return " ".join(f"--layer {name}" for name in self.expected.split("+"))
        if self.field == "weights" and not self.expected.startswith("random:"):
            return f"--weights FILE (the one of sha256 {self.expected[:8]}…)"
        return f"--{self.field} {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The facts that determine a code's numbers.

    Parameters
    ----------
    weights : str
        sha256 of the weights file in hexadecimal, or "random:SEED". With renames, a
        digest of both (see `featx.network.WeightsSource`).
    layers : tuple of str
        Layers that codes are taken from, in the network's order.
    pool : {"none", "avg", "max", "avg+max", "grid:N"}, default="none"
        What becomes of a map of (height, width, channels): kept whole; its
        mean or maximum over the places, or both, first all the means; or the
        means of a grid of N x N cells (see `featx.network.backbone.pooled`).
        Fully connected layers have one place and stay as they are.
    size : tuple of int, default=(224, 224)
        Image size that the network sees, (height, width), in pixels.
    resize : {"squash", "crop", "pad"}, default="squash"
        How an image of another shape gets there: stretched, its middle cut
        out, or a border added. Always antialiased bilinear.
    jpeg : {"reduced", "full"}, default="reduced"
        Whether a JPEG much larger than `size` is decoded at a half, a quarter
        or an eighth of its size; `featx.images.decoding` says when, and what
        it changes.
    preprocess : {"caffe", "unit"}, default="caffe"
        BGR minus ImageNet's mean, or RGB / 255.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Arithmetic of the network: float32 throughout; factors of products
        rounded to TF32, as NVIDIA's GPUs do; or products and activations in
        bfloat16, pooling and codes in float32.
    dtype : {"float32", "float16"}, default="float32"
        Numbers that the store keeps.

    Raises
    ------
    OptionError
        A value that cannot be, or a layer that does not exist at this size, or
        whose map has fewer places along a side than a grid has cells.

    Examples
    --------
    >>> recipe = Recipe(weights="random:0", layers=("block2_pool",))
    >>> recipe.code_shape("block2_pool"), recipe.code_size("block2_pool")
    ((56, 56, 128), 401408)
    """

    weights: str
    layers: tuple[str, ...]
    pool: Pool = "none"
    size: tuple[int, int] = (224, 224)
    resize: Resize = "squash"
    jpeg: Jpeg = "reduced"
    preprocess: Preprocess = "caffe"
    precision: Precision = "float32"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.pool, str) or not _POOL.fullmatch(self.pool):
            message = (
                f"No such pool: {self.pool!r}. Expected none, avg, max, avg+max or grid:N, as in "
                "grid:2. Use --pool avg."
            )
            raise OptionError(message)
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                message = (
                    f"No such {field}: {value!r}. Expected one of {', '.join(choices)}. "
                    f"Use --{field} {choices[0]}."
                )
                raise OptionError(message)
        if not self.layers:
            message = "No layer was given. Use --layer NAME; all names: featx layers"
            raise OptionError(message)
        for name in self.layers:
            activation_shape(name, self.size)
        in_order = tuple(sorted(set(self.layers), key=lambda n: LAYERS.index(find_layer(n))))
        # Frozen, so the order that the user happened to type is settled here, once.
        object.__setattr__(self, "layers", in_order)
        self._check_grid()

    def code_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one image's code: (h, w, c), or (d,)."""
        shape = activation_shape(layer, self.size)
        if self.pool == "none" or len(shape) == 1:  # fully connected: one place
            return shape
        channels = shape[-1]
        if self.grid is not None:
            return (self.grid, self.grid, channels)
        return (2 * channels,) if self.pool == "avg+max" else (channels,)

    def code_size(self, layer: str) -> int:
        """Return how many numbers one image's code at `layer` holds."""
        return math.prod(self.code_shape(layer))

    @property
    def grid(self) -> int | None:
        """N of the pooling grid:N, its cells along a side; None for the other poolings."""
        _, _, cells = self.pool.partition("grid:")
        return int(cells) if cells else None

    @property
    def width(self) -> int:
        """How many numbers one image's codes hold, all layers side by side."""
        return sum(self.code_size(layer) for layer in self.layers)

    def code_names(self) -> list[str]:
        """Return names for these numbers: LAYER_0, LAYER_1 and so on.

        Number k of a map of (height, width, channels) stands at
        ``numpy.unravel_index(k, (height, width, channels))``, of a grid at that of
        its cells; of avg+max the maximum of a channel follows all the means.
        """
        return [f"{layer}_{k}" for layer in self.layers for k in range(self.code_size(layer))]

    def code_bytes(self) -> int:
        """Return the bytes that one image's codes take in a store, all layers together."""
        itemsize = {"float32": 4, "float16": 2}[self.dtype]
        return itemsize * self.width

    def narrowed(self, layers: Iterable[str]) -> "Recipe":
        """Return the same recipe for other layers."""
        return dataclasses.replace(self, layers=tuple(layers))

    def to_json(self) -> str:
        """Return the recipe as one JSON object, keys in the order of the fields."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Raises
        ------
        OptionError
            The text holds a field that this version of featx does not know.
        """
        fields = json.loads(text)
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            message = (
                f"The recipe holds {', '.join(unknown)}, which this version of featx does not "
                "know. A newer featx wrote it: pip install --upgrade featx"
            )
            raise OptionError(message)
        fields.setdefault("jpeg", "full")  # before there was a choice
        return cls(**{**fields, "layers": tuple(fields["layers"]), "size": tuple(fields["size"])})

    def differences(self, expected: "Recipe") -> list[Difference]:
        """Return the fields in which this recipe is not the expected one."""
        return [
            Difference(field.name, *(_spelt(getattr(r, field.name)) for r in (self, expected)))
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(expected, field.name)
        ]

    def _check_grid(self) -> None:
        """Refuse a grid with more cells along a side than a layer's map has places."""
        if self.grid is None:
            return
        # The deepest layer has the smallest map, so the grid that is proposed fits all of them.
        for name in reversed(self.layers):
            shape = activation_shape(name, self.size)
            if len(shape) > 1 and min(shape[:2]) < self.grid:
                message = (
                    f"Layer '{name}' has a map of {_spelt(shape[:2])} places at size "
                    f"{_spelt(self.size)}. Expected at least {self.grid}x{self.grid} for --pool "
                    f"{self.pool}. Use --pool grid:{min(shape[:2])}, or "
                    f"--size {find_layer(name).stride * self.grid} or more."
                )
                raise OptionError(message)


def image_size(size: "int | str | Sequence[int]") -> tuple[int, int]:
    """Return an image size as (height, width), however it is spelt.

    Parameters
    ----------
    size : int, str or pair of int
        One number for a square, (height, width), or the command line's
        "224" or "HEIGHTxWIDTH".

    Raises
    ------
    OptionError
        It is none of these.

    Examples
    --------
    >>> image_size(224), image_size("192x256")
    ((224, 224), (192, 256))
    """
    parts = [*map(str, size)] if isinstance(size, tuple | list) else str(size).lower().split("x")
    if len(parts) not in {1, 2} or not all(p.isdecimal() and int(p) > 0 for p in parts):
        message = f"No such size: {size!r}. Expected pixels, as --size 224 or --size 192x256."
        raise OptionError(message)
    height, width = int(parts[0]), int(parts[-1])
    if max(height, width) > _LARGEST_SIDE:
        message = f"No such size: {size!r}. Expected at most {_LARGEST_SIDE} pixels a side."
        raise OptionError(message)
    return height, width


def _spelt(value: object) -> str:
    """Spell a field's value as the command line does."""
    if isinstance(value, tuple):
        return ("x" if all(isinstance(v, int) for v in value) else "+").join(map(str, value))
    return str(value)
