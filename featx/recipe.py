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

from featx.choices import (
    Dtype,
    Jpeg,
    Pool,
    Precision,
    Preprocess,
    Resize,
    ScalesJoin,
    check_choices,
    flag_of,
)
from featx.errors import OptionError
from featx.layers import LAYERS, activation_shape, find_layer
from featx.text import did_you_mean

__all__ = [
    "SCALE_STEP",
    "Difference",
    "Recipe",
    "check_sizes",
    "image_size",
    "size_text",
]

# Ten times what any camera's picture has to be for VGG19; beyond, memory fails without a word.
_LARGEST_SIDE = 10_000

# What a mistyped one may have been meant to be; the last stands for every grid.
_POOL_NAMES = ("none", "avg", "max", "avg+max", "bilinear", "grid:2")
# One spelling for each number: a recipe of grid:02 would differ from the same one of grid:2.
_POOL = re.compile(r"none|avg|max|avg\+max|bilinear|grid:[1-9][0-9]{0,4}")

#: Sides of scaled images are multiples of this, the stride of block5_pool: no layer's map
#: ends before its image does.
SCALE_STEP = 32
# Crops of 224 are taken from 256, as in Krizhevsky et al. 2012 and since.
_CROPPED_FROM = 8 / 7

#: Fields that are lists in JSON, and of what.
_LISTS: dict[str, type] = {"layers": str, "size": int, "scales": int}


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
        flag = flag_of(self.field)
        if (self.field, self.expected) in {("flip", "False"), ("scales", "none")}:
            return f"no {flag}"
        if self.field == "flip":
            return flag
        if self.field in {"layers", "scales"}:
            return " ".join(f"{flag} {each}" for each in self.expected.split("+"))
        if self.field == "weights" and not self.expected.startswith("random:"):
            return f"--weights FILE (the one of sha256 {self.expected[:8]}…)"
        return f"{flag} {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The facts that determine a code's numbers.

    Parameters
    ----------
    weights : str
        The sha256 of the weights file in hexadecimal, or "random:SEED". With renames, a
        digest of both (see `featx.network.WeightsSource`).
    layers : tuple of str
        Layers that codes are taken from, in the network's order.
    pool : {"none", "avg", "max", "avg+max", "grid:N", "bilinear"}, default="none"
        What becomes of a map of (height, width, channels): kept whole; its
        mean or maximum over the places, or both, first all the means; the
        means of a grid of N x N cells; or the mean products of each two
        channels (see `featx.network.pooling`). Fully connected layers have
        one place and stay as they are.
    size : tuple of int, default=(224, 224)
        Image size that the network sees, (height, width), in pixels. With
        `scales`, a square of the largest, whatever was given.
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
    flip : bool, default=False
        Whether a code is the mean of that of the image and that of its mirror
        image [1]_; where codes have places, the mirror image's are turned back
        before.
    crops : {1, 5, 10}, default=1
        With 5, the image is brought to 8/7 of `size`, and a code is the mean of
        those of its four corners and its middle [2]_. 10 is 5 with `flip`.
    scales : tuple of int, default=()
        Shorter sides, in pixels, multiples of 32, at which the network is applied to
        the whole image, its aspect kept to a multiple of 32 [1]_. An image of more
        than 4 to 1 is taken as one of 4 to 1. Instead of `size` and `resize`.
    scales_join : {"mean", "stack"}, default="mean"
        Whether the codes of several scales are averaged, or put side by side, the
        smallest scale first, along their last axis.

    Raises
    ------
    OptionError
        A value that cannot be, or a layer that does not exist at this size, or
        whose map has fewer places along a side than a grid has cells; places of
        crops or scales, which are none of the image's.

    References
    ----------
    .. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for
       Large-Scale Image Recognition", 2014, appendix B.
       https://arxiv.org/abs/1409.1556
    .. [2] A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet Classification
       with Deep Convolutional Neural Networks", NIPS 2012.

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
    flip: bool = False
    crops: int = 1
    scales: tuple[int, ...] = ()
    scales_join: ScalesJoin = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.pool, str) or not _POOL.fullmatch(self.pool):
            message = (
                f"No such pool: {self.pool!r}.{did_you_mean(str(self.pool), _POOL_NAMES)} "
                "Expected none, avg, max, avg+max, bilinear or grid:N, as in grid:2. "
                "Use --pool avg."
            )
            raise OptionError(message)
        check_choices(self)
        if not self.layers:
            message = "No layer was given. Use --layer NAME; all names: featx layers"
            raise OptionError(message)
        self._settle_crops()
        self._settle_scales()
        for name in self.layers:
            activation_shape(name, self.size)
        in_order = tuple(sorted(set(self.layers), key=lambda n: LAYERS.index(find_layer(n))))
        # Frozen, so the order that the user happened to type is settled here, once.
        object.__setattr__(self, "layers", in_order)
        self._check_grid()

    def code_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one image's code: (h, w, c), or (d,).

        Parameters
        ----------
        layer : str
            Of VGG19.

        Returns
        -------
        tuple of int
            Without the images.
        """
        shape = activation_shape(layer, self.size)
        if self.pool == "none" or len(shape) == 1:  # fully connected: one place
            return shape
        channels = shape[-1]
        n = len(self.scales) if self.scales_join == "stack" else 1
        if self.grid is not None:
            return (self.grid, self.grid, n * channels)
        if self.pool == "bilinear":
            return (n * channels * (channels + 1) // 2,)
        return (2 * n * channels,) if self.pool == "avg+max" else (n * channels,)

    def code_size(self, layer: str) -> int:
        """Return how many numbers one image's code at `layer` holds.

        Parameters
        ----------
        layer : str
            Of VGG19.

        Returns
        -------
        int
            The product of `code_shape`.
        """
        return math.prod(self.code_shape(layer))

    @property
    def view_size(self) -> tuple[int, int]:
        """(height, width) of what the network takes in: `size`, or what crops are cut from."""
        height, width = self.size
        if self.crops == 1:
            return self.size
        return round(height * _CROPPED_FROM), round(width * _CROPPED_FROM)

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """(top, left) of the crops in `view_size`: the four corners, then the middle."""
        down, across = (w - s for w, s in zip(self.view_size, self.size, strict=True))
        if self.crops == 1:
            return ((0, 0),)
        return ((0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2))

    @property
    def n_views(self) -> int:
        """How many pictures of `size` go through the network for one image, a scale."""
        return self.crops * (2 if self.flip else 1)

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
        its cells; of avg+max the maximum of a channel follows all the means; of
        bilinear it is the k-th pair of ``numpy.triu_indices(channels)``. Stacked
        scales follow each other.

        Returns
        -------
        list of str
            As many as `width` says.
        """
        return [f"{layer}_{k}" for layer in self.layers for k in range(self.code_size(layer))]

    def code_bytes(self) -> int:
        """Return the bytes that one image's codes take in a store, all layers together.

        Returns
        -------
        int
            Bytes.
        """
        itemsize = {"float32": 4, "float16": 2}[self.dtype]
        return itemsize * self.width

    def narrowed(self, layers: Iterable[str]) -> "Recipe":
        """Return the same recipe for other layers.

        Parameters
        ----------
        layers : iterable of str
            Of VGG19, in any order.

        Returns
        -------
        Recipe
            With these layers, in the network's order.
        """
        return dataclasses.replace(self, layers=tuple(layers))

    def to_json(self) -> str:
        """Return the recipe as one JSON object, keys in the order of the fields.

        Returns
        -------
        str
            What a store's attribute `recipe` holds.
        """
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            One JSON object; a field that it lacks has its default.

        Returns
        -------
        Recipe
            The same, checked.

        Raises
        ------
        OptionError
            The text holds a field that this version of featx does not know, or a
            value that it cannot have.
        TypeError, ValueError, RecursionError
            The text is no JSON object of fields of their kinds.
        """
        fields = json.loads(text)
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            message = (
                f"The recipe holds {', '.join(unknown)}, which this version of featx does not "
                "know. A newer featx wrote it: pip install --upgrade featx"
            )
            raise OptionError(message)
        _check_kinds(fields)
        fields.setdefault("jpeg", "full")  # before there was a choice
        tuples = {name: tuple(fields.get(name, ())) for name in ("layers", "size", "scales")}
        return cls(**{**fields, **tuples})

    def differences(self, expected: "Recipe") -> list[Difference]:
        """Return the fields in which this recipe is not the expected one.

        Parameters
        ----------
        expected : Recipe
            The other one.

        Returns
        -------
        list of Difference
            In the order of the fields; empty where both are equal.
        """
        return [
            Difference(
                field.name,
                *(
                    _spelt(getattr(r, field.name), "x" if field.name == "size" else "+")
                    for r in (self, expected)
                ),
            )
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(expected, field.name)
        ]

    def _settle_crops(self) -> None:
        """Refuse crops that cannot be; ten of them are five and their mirror images."""
        if self.crops not in {1, 5, 10}:
            message = f"No such crops: {self.crops}. Expected --crops 5, 10 or 1."
            raise OptionError(message)
        if self.crops == 1:
            return
        if self.scales:
            message = "The network sees the whole image at a --scale. Leave out --crops."
            raise OptionError(message)
        if self.pool == "none" or self.grid is not None:
            raise OptionError(self._placeless("--crops", "places of crops are none of the image's"))
        if self.crops == 10:
            object.__setattr__(self, "crops", 5)
            object.__setattr__(self, "flip", True)

    def _settle_scales(self) -> None:
        """Refuse scales that cannot be, and put them in order; size and resize follow from them."""
        if not self.scales:
            object.__setattr__(self, "scales_join", "mean")
            return
        wrong = [each for each in self.scales if each < SCALE_STEP or each % SCALE_STEP]
        if wrong or max(self.scales) > _LARGEST_SIDE:
            message = (
                f"No such scale: {(wrong or self.scales)[0]}. Expected the shorter side in pixels, "
                f"a multiple of {SCALE_STEP} up to {_LARGEST_SIDE}, as in --scale 256."
            )
            raise OptionError(message)
        dense = [name for name in self.layers if find_layer(name).kind == "dense"]
        if dense:
            message = (
                f"Layer '{dense[0]}' takes images of 224 alone, and a --scale makes others. Leave "
                "out --scale, or use a conv or pool layer."
            )
            raise OptionError(message)
        if self.pool == "none":
            raise OptionError(
                self._placeless("--scale", "images of other shapes have other places")
            )
        scales = tuple(sorted(set(self.scales)))
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "size", (scales[-1], scales[-1]))
        object.__setattr__(self, "resize", "squash")
        if len(scales) == 1:
            object.__setattr__(self, "scales_join", "mean")

    def _placeless(self, flag: str, reason: str) -> str:
        """Say that a flag leaves no places for a pooling that keeps them."""
        return f"{flag} and --pool {self.pool} do not go together: {reason}. Use --pool avg."

    def _check_grid(self) -> None:
        """Refuse a grid with more cells along a side than a layer's map has places."""
        if self.grid is None:
            return
        # The deepest layer has the smallest map, so the grid that is proposed fits all of them.
        for name in reversed(self.layers):
            # Of a scaled image the shorter side is the smallest scale.
            size = (self.scales[0], self.scales[0]) if self.scales else self.size
            shape = activation_shape(name, size)
            if len(shape) > 1 and min(shape[:2]) < self.grid:
                message = (
                    f"Layer '{name}' has a map of {_spelt(shape[:2])} places at size "
                    f"{_spelt(size)}. Expected at least {self.grid}x{self.grid} for --pool "
                    f"{self.pool}. Use --pool grid:{min(shape[:2])}, or "
                    f"--{'scale' if self.scales else 'size'} "
                    f"{find_layer(name).stride * self.grid} or more."
                )
                raise OptionError(message)


def _check_kinds(fields: object) -> None:
    """Refuse JSON that is no recipe: what is compared and computed later must be of its kind."""
    if not isinstance(fields, dict):
        message = f"The recipe is {type(fields).__name__}. Expected a JSON object."
        raise TypeError(message)
    for name, value in fields.items():
        if name in _LISTS:
            kind = _LISTS[name]
            fits = isinstance(value, list) and all(type(each) is kind for each in value)
        else:
            kind = {"flip": bool, "crops": int}.get(name, str)
            fits = type(value) is kind  # True is an int, and no number of crops
        if not fits or (name == "size" and len(value) != 2):
            message = f"The recipe's {name} is {value!r:.60}. Expected {kind.__name__}."
            raise TypeError(message)


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


def check_sizes(sizes: Iterable[tuple[int, int]], scales: Sequence[int]) -> None:
    """Refuse image sizes beside scales, which say what they are; the usual one was not typed.

    Raises
    ------
    OptionError
        There are both.
    """
    if scales and any(size != Recipe.size for size in sizes):
        message = "A --scale says the size of images. Leave out --size, or --scale."
        raise OptionError(message)


def size_text(size: tuple[int, int]) -> str:
    """Return a size as one types it; `image_size` reads it.

    Examples
    --------
    >>> size_text((224, 224)), size_text((96, 128))
    ('224', '96x128')
    """
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def _spelt(value: object, between: str = "x") -> str:
    """Spell a field's value as the command line does."""
    if isinstance(value, tuple):
        return between.join(map(str, value)) or "none"
    return str(value)
