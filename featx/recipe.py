"""The recipe: every setting that determines the values of codes.

Settings come in and are checked; a frozen value goes out that every store and every model
contains. A setting belongs here if changing it changes the codes. The
provenance (who made the codes, when, on which device, in which batches) is stored separately
and never compared. This file opens no files and imports no TensorFlow.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType

from featx.choices import (
    Dtype,
    Grey,
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

# Far more than VGG19 can use. Larger images would end the process without a message.
_LARGEST_SIDE = 10_000

# Candidates for "did you mean"; the last one represents every grid.
_POOL_NAMES = ("none", "avg", "max", "avg+max", "bilinear", "grid:2")
# Only one spelling of each number, since recipes are compared as text: grid:2, not grid:02.
_POOL = re.compile(r"none|avg|max|avg\+max|bilinear|grid:[1-9][0-9]{0,4}")

#: The sides of scaled images are multiples of this, the stride of block5_pool, so that the
#: feature maps of all layers cover the whole image.
SCALE_STEP = 32
# Crops of 224 pixels come from an image of 256, as in Krizhevsky et al. 2012.
_CROPPED_FROM = 8 / 7

#: Types of the JSON fields that are not text; for lists, the type of the items.
_KINDS: dict[str, type] = {"layers": str, "size": int, "scales": int, "flip": bool, "crops": int}
_NUMBER_OR_NONE = {"white"}
_LISTS = ("layers", "size", "scales")

# Values that a setting has if its flag is not given.
_WITHOUT_FLAG = {("flip", "False"), ("scales", "none"), ("white", "none")}


@dataclass(frozen=True)
class Difference:
    """A field in which two recipes differ.

    Parameters
    ----------
    field : str
        Name of the field.
    received, expected : str
        Both values, as typed on the command line.
    """

    field: str
    received: str
    expected: str

    def __str__(self) -> str:
        return f"{self.field} is {self.received}, expected {self.expected}"

    @property
    def flag(self) -> str:
        """The flags that set the expected value."""
        flag = flag_of(self.field)
        if (self.field, self.expected) in _WITHOUT_FLAG:
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
    """The settings that determine the values of codes.

    Parameters
    ----------
    weights : str
        The sha256 of the weights file in hexadecimal, or "random:SEED". With renamed
        layers, a digest of the file and the renames (see `featx.network.WeightsSource`).
    layers : tuple of str
        Layers that codes are taken from, in the network's order.
    pool : {"none", "avg", "max", "avg+max", "grid:N", "bilinear"}, default="none"
        Pooling of a feature map of (height, width, channels): none; the mean or the
        maximum over all positions; both, first all means; the means of a grid of
        N x N cells; or the mean products of each pair of channels (see
        `featx.network.pooling`). Fully connected layers have no positions and are
        never pooled.
    size : tuple of int, default=(224, 224)
        Size of the images in the network, (height, width), in pixels. With `scales` it
        is always a square of the largest scale.
    resize : {"squash", "crop", "pad"}, default="squash"
        How an image with another aspect ratio is fitted to `size`: stretched, cropped
        at the centre, or padded. The filter is antialiased bilinear.
    jpeg : {"reduced", "full"}, default="reduced"
        Whether a JPEG much larger than `size` is decoded at a half, a quarter or an
        eighth of its size. `featx.images.decoding` explains when, and what changes.
    grey : {"tags", "pillow"}, default="tags"
        How samples of more than 8 bits become 8 bits: by what the file says of them (see
        `featx.images.grey`), or by the rule of featx 0.1.
    white : float, optional
        The value of white in images of more than 8 bits; by default, what the file says.
    preprocess : {"caffe", "unit"}, default="caffe"
        BGR minus ImageNet's mean, or RGB / 255.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Arithmetic of the network: float32; float32 with the factors of products
        rounded to TF32, on NVIDIA GPUs; or products and activations in bfloat16 with
        pooling and codes in float32.
    dtype : {"float32", "float16"}, default="float32"
        Data type of the stored codes.
    flip : bool, default=False
        Average the codes of the image and of its mirror image [1]_. Codes that have
        positions are mirrored back before averaging.
    crops : {1, 5, 10}, default=1
        With 5, resize the image to 8/7 of `size` and average the codes of its four
        corners and its centre [2]_. 10 is the same as 5 with `flip`.
    scales : tuple of int, default=()
        Lengths of the shorter side, in pixels and multiples of 32, at which the network
        is applied to the whole image [1]_. The longer side follows from the aspect
        ratio, rounded to a multiple of 32; ratios above 4 to 1 count as 4 to 1. This
        replaces `size` and `resize`.
    scales_join : {"mean", "stack"}, default="mean"
        Whether the codes of several scales are averaged, or concatenated along the last
        axis, the smallest scale first.

    Raises
    ------
    OptionError
        A value is not allowed; a layer does not exist at this size, or its feature map
        is smaller than the grid; or crops or scales are combined with a pooling that
        keeps positions.

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
    grey: Grey = "tags"
    white: float | None = None
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
                f"Unknown value {self.pool!r} for --pool."
                f"{did_you_mean(str(self.pool), _POOL_NAMES)} "
                "Use --pool with none, avg, max, avg+max, bilinear or grid:N, such as grid:2."
            )
            raise OptionError(message)
        check_choices(self)
        if not self.layers:
            message = "No layer was given. Use --layer NAME. List all layers with: featx layers"
            raise OptionError(message)
        self._settle_white()
        self._settle_crops()
        self._settle_scales()
        for name in self.layers:
            activation_shape(name, self.size)
        in_order = tuple(sorted(set(self.layers), key=lambda n: LAYERS.index(find_layer(n))))
        # Equal recipes must compare as equal, in whatever order the layers were typed.
        object.__setattr__(self, "layers", in_order)
        self._check_grid()

    def code_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one image's code at a layer.

        Parameters
        ----------
        layer : str
            A layer of VGG19.

        Returns
        -------
        tuple of int
            (height, width, channels), or (n_features,).
        """
        shape = activation_shape(layer, self.size)
        if self.pool == "none" or len(shape) == 1:  # fully connected layers have no positions
            return shape
        channels = shape[-1]
        n = len(self.scales) if self.scales_join == "stack" else 1
        if self.grid is not None:
            return (self.grid, self.grid, n * channels)
        if self.pool == "bilinear":
            return (n * channels * (channels + 1) // 2,)
        return (2 * n * channels,) if self.pool == "avg+max" else (n * channels,)

    def code_size(self, layer: str) -> int:
        """Return the number of features of one image's code at a layer.

        Parameters
        ----------
        layer : str
            A layer of VGG19.

        Returns
        -------
        int
            The product of `code_shape`.
        """
        return math.prod(self.code_shape(layer))

    @property
    def view_size(self) -> tuple[int, int]:
        """Size of the images before cropping, (height, width): `size`, or 8/7 of it."""
        height, width = self.size
        if self.crops == 1:
            return self.size
        return round(height * _CROPPED_FROM), round(width * _CROPPED_FROM)

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """(top, left) of each crop in an image of `view_size`: the corners, then the centre."""
        down, across = (w - s for w, s in zip(self.view_size, self.size, strict=True))
        if self.crops == 1:
            return ((0, 0),)
        return ((0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2))

    @property
    def n_views(self) -> int:
        """Number of forward passes for each image and scale."""
        return self.crops * (2 if self.flip else 1)

    @property
    def grid(self) -> int | None:
        """N of the pooling grid:N, or None for other poolings."""
        _, _, cells = self.pool.partition("grid:")
        return int(cells) if cells else None

    @property
    def n_features(self) -> int:
        """Number of features per image, all layers together."""
        return sum(self.code_size(layer) for layer in self.layers)

    def code_names(self) -> list[str]:
        """Return the names of the features: LAYER_0, LAYER_1 and so on.

        Feature k of a map of (height, width, channels) is the one at
        ``numpy.unravel_index(k, (height, width, channels))``; the same holds for the cells
        of a grid. With avg+max, the maxima of all channels follow the means. With
        bilinear, feature k is the k-th pair of ``numpy.triu_indices(channels)``. Stacked
        scales follow each other.

        Returns
        -------
        list of str
            `n_features` names.
        """
        return [f"{layer}_{k}" for layer in self.layers for k in range(self.code_size(layer))]

    def code_bytes(self) -> int:
        """Return the size of one image's codes in a store.

        Returns
        -------
        int
            The size in bytes.
        """
        itemsize = {"float32": 4, "float16": 2}[self.dtype]
        return itemsize * self.n_features

    def with_layers(self, layers: Iterable[str]) -> "Recipe":
        """Return the same recipe for other layers.

        Parameters
        ----------
        layers : iterable of str
            Layers of VGG19, in any order.

        Returns
        -------
        Recipe
            The recipe with these layers, in the network's order.
        """
        return dataclasses.replace(self, layers=tuple(layers))

    def to_json(self) -> str:
        """Return the recipe as JSON.

        Returns
        -------
        str
            A JSON object with keys in the order of the fields.
        """
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read the result of `to_json`.

        Parameters
        ----------
        text : str
            A JSON object. Missing fields get their defaults.

        Returns
        -------
        Recipe
            The recipe, checked.

        Raises
        ------
        OptionError
            The text has an unknown field, or a value that is not allowed.
        TypeError, ValueError, RecursionError
            The text is not a JSON object, or a field has the wrong type.
        """
        fields = json.loads(text)
        unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            message = (
                f"The recipe has the unknown settings {', '.join(unknown)}. A newer version of "
                "featx wrote it. Upgrade featx: pip install --upgrade featx"
            )
            raise OptionError(message)
        _check_kinds(fields)
        # Older recipes lack these fields.
        fields = {"jpeg": "full", "grey": "pillow"} | fields
        return cls(**fields | {name: tuple(fields.get(name, ())) for name in _LISTS})

    def differences(self, expected: "Recipe") -> list[Difference]:
        """Return the fields in which this recipe differs from another one.

        Parameters
        ----------
        expected : Recipe
            The other recipe.

        Returns
        -------
        list of Difference
            In the order of the fields; empty if both are equal.
        """
        found = []
        for name, received in vars(self).items():
            wanted, between = getattr(expected, name), "x" if name == "size" else "+"
            if received != wanted:
                found.append(Difference(name, _spelt(received, between), _spelt(wanted, between)))
        return found

    def _settle_white(self) -> None:
        """Check the white level."""
        if self.white is None:
            return
        number = isinstance(self.white, int | float) and not isinstance(self.white, bool)
        if not number or not 0 < self.white < math.inf:
            message = (
                f"--white must be a positive number, but it is {self.white!r}. Use the value of "
                "white in the images, such as --white 4095."
            )
            raise OptionError(message)
        if self.grey == "pillow":
            message = (
                "--white cannot be used with --grey pillow, the rule of featx 0.1. Use --grey tags."
            )
            raise OptionError(message)
        object.__setattr__(self, "white", float(self.white))

    def _settle_crops(self) -> None:
        """Check the crops; ten crops are five crops with their mirror images."""
        if self.crops not in {1, 5, 10}:
            message = f"--crops must be 1, 5 or 10, but it is {self.crops}. Use --crops 10."
            raise OptionError(message)
        if self.crops == 1:
            return
        if self.scales:
            message = (
                "--crops and --scale cannot be combined: --scale uses the whole image. Remove one "
                "of them."
            )
            raise OptionError(message)
        if self.pool == "none" or self.grid is not None:
            raise OptionError(self._without_positions("--crops"))
        if self.crops == 10:
            object.__setattr__(self, "crops", 5)
            object.__setattr__(self, "flip", True)

    def _settle_scales(self) -> None:
        """Check the scales and sort them; size and resize follow from them."""
        if not self.scales:
            object.__setattr__(self, "scales_join", "mean")
            return
        wrong = [each for each in self.scales if each < SCALE_STEP or each % SCALE_STEP]
        if wrong or max(self.scales) > _LARGEST_SIDE:
            message = (
                f"--scale {(wrong or self.scales)[0]} is not a multiple of {SCALE_STEP} pixels "
                f"up to {_LARGEST_SIDE}. Use a length of the shorter side such as --scale 256."
            )
            raise OptionError(message)
        dense = [name for name in self.layers if find_layer(name).kind == "dense"]
        if dense:
            message = (
                f"Layer '{dense[0]}' needs images of size 224, so it cannot be used with --scale. "
                "Remove --scale, or use a conv or pool layer."
            )
            raise OptionError(message)
        if self.pool == "none":
            raise OptionError(self._without_positions("--scale"))
        scales = tuple(sorted(set(self.scales)))
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "size", (scales[-1], scales[-1]))
        object.__setattr__(self, "resize", "squash")
        if len(scales) == 1:
            object.__setattr__(self, "scales_join", "mean")

    def _without_positions(self, flag: str) -> str:
        """Return the error for a flag that needs a pooling over all positions."""
        return (
            f"{flag} cannot be used with --pool {self.pool}, because the codes of one image would "
            "have different positions. Use --pool avg."
        )

    def _check_grid(self) -> None:
        """Refuse a grid that is finer than the feature map of a layer."""
        if self.grid is None:
            return
        # The deepest layer has the smallest map, so the suggested grid fits all layers.
        for name in reversed(self.layers):
            # The smallest scale is the shorter side of the smallest image.
            size = (self.scales[0], self.scales[0]) if self.scales else self.size
            shape = activation_shape(name, size)
            if len(shape) > 1 and min(shape[:2]) < self.grid:
                message = (
                    f"Layer '{name}' has a feature map of {_spelt(shape[:2])} at size "
                    f"{_spelt(size)}, but --pool {self.pool} needs at least "
                    f"{self.grid}x{self.grid}. Use --pool grid:{min(shape[:2])}, or "
                    f"--{'scale' if self.scales else 'size'} "
                    f"{find_layer(name).stride * self.grid} or more."
                )
                raise OptionError(message)


def _check_kinds(fields: object) -> None:
    """Check the types of the fields of a recipe in JSON."""
    if not isinstance(fields, dict):
        message = f"The recipe is a {type(fields).__name__}. Expected a JSON object."
        raise TypeError(message)
    for name, value in fields.items():
        if name in _NUMBER_OR_NONE and type(value) in (int, float, NoneType):
            continue
        kind, items = _KINDS.get(name, str), value if name in _LISTS else [value]
        # isinstance would accept True as an int
        fits = isinstance(items, list) and all(type(each) is kind for each in items)
        if not fits or (name == "size" and len(value) != 2):
            message = f"The recipe's {name} is {value!r:.60}. Expected {kind.__name__}."
            raise TypeError(message)


def image_size(size: "int | str | Sequence[int]") -> tuple[int, int]:
    """Return an image size as (height, width).

    Parameters
    ----------
    size : int, str or pair of int
        One number for a square, (height, width), or text such as "224" or
        "HEIGHTxWIDTH".

    Raises
    ------
    OptionError
        The size is none of these, or too large.

    Examples
    --------
    >>> image_size(224), image_size("192x256")
    ((224, 224), (192, 256))
    """
    parts = [*map(str, size)] if isinstance(size, tuple | list) else str(size).lower().split("x")
    if len(parts) not in {1, 2} or not all(p.isdecimal() and int(p) > 0 for p in parts):
        message = f"--size {size!r} is not a size in pixels. Use --size 224 or --size 192x256."
        raise OptionError(message)
    height, width = int(parts[0]), int(parts[-1])
    if max(height, width) > _LARGEST_SIDE:
        message = f"--size {size!r} is too large. Use at most {_LARGEST_SIDE} pixels per side."
        raise OptionError(message)
    return height, width


def check_sizes(sizes: Iterable[tuple[int, int]], scales: Sequence[int]) -> None:
    """Refuse image sizes that differ from the default if there are scales.

    Raises
    ------
    OptionError
        Both were given.
    """
    if scales and any(size != Recipe.size for size in sizes):
        message = "--size and --scale cannot be combined. Remove one of them."
        raise OptionError(message)


def size_text(size: tuple[int, int]) -> str:
    """Return a size as text that `image_size` can read.

    Examples
    --------
    >>> size_text((224, 224)), size_text((96, 128))
    ('224', '96x128')
    """
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def _spelt(value: object, between: str = "x") -> str:
    """Return the value of a field as typed on the command line."""
    if isinstance(value, tuple):
        return between.join(map(str, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
