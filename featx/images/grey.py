"""Grey levels: samples of more than 8 bits become 8 bits, by what their file says of them.

An image that is opened, but not decoded yet, comes in, and the samples that it has go out; with
them, the decoded image becomes one of 8 bits. The rule, "tags" in the recipe:

* black is 0. White is the largest value of the file's bits: 255 for 8 bits, 4095 for 12, 65535
  for 16, and half of that for signed samples. PGM and JPEG 2000 name their largest value;
* where the file says WhiteIsZero, the levels are inverted;
* with a white level, white is that value instead, and values outside are clipped. 8 bits are
  never changed;
* 32-bit integers and floats say nothing of white, so they are refused without a white level, and
  so are negative values. Values that are not finite are always refused.

featx 0.1 had another rule, "pillow" in the recipe: any integers between 0 and 65535 are 16-bit
grey, whatever the file says. Stores of that version still use it.

This module opens no files.
"""

import sys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.choices import Grey
from featx.errors import ImageError

__all__ = [
    "BY_TAGS",
    "Doubt",
    "GreyRule",
    "Samples",
    "decode_lower_bits",
    "deep_colours",
    "eight_bits",
    "range_doubt",
    "samples_of",
]

#: What looks wrong with the grey levels of an image: nothing; it uses less than a sixteenth of
#: its range; or more than half of it is brighter than the white level.
Doubt = Literal["", "dark", "clipped"]

_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339  # tags of TIFF
_SIGNED, _FLOAT = 2, 3

_DARK = 16  # times the largest value is less than white


class GreyRule(NamedTuple):
    """How samples of more than 8 bits become 8 bits.

    Parameters
    ----------
    name : {"tags", "pillow"}, default="tags"
        By what the file says, or by the rule of featx 0.1.
    white : float, optional
        The value of white; by default, what the file says.
    """

    name: Grey = "tags"
    white: float | None = None


#: The rule of the file's tags.
BY_TAGS = GreyRule()


@dataclass(frozen=True)
class Samples:
    """Samples that need a rule to become 8 bits, as their file describes them.

    Parameters
    ----------
    kind : str
        What they are, for reasons: "16-bit", "32-bit" or "float".
    white : int or None
        The decoded value of white; None if the file does not say it.
    unit : float, default=1
        Decoded value of a sample of 1.
    dtype : str, default=""
        Type as which the decoded values are read, if not their own.
    inverted : bool, default=False
        Whether 0 is white.
    colour : bool, default=False
        Whether these are 16-bit colours, of which Pillow decodes the upper 8 bits.
    """

    kind: str
    white: int | None
    unit: float = 1.0
    dtype: str = ""
    inverted: bool = False
    colour: bool = False


def samples_of(image: Any, data: bytes = b"") -> Samples | None:
    """Return what is known of the samples of an image that is not decoded yet.

    Parameters
    ----------
    image : PIL.Image.Image
        An opened image, or one in memory.
    data : bytes, optional
        Its file.

    Returns
    -------
    Samples or None
        None for 8 bits or fewer, which need no rule.
    """
    if image.format == "TIFF":
        return _of_tiff(image)
    if image.format == "PPM" and image.mode != "F":
        return _of_ppm(image)
    if image.format == "JPEG2000" and not image.mode.startswith("I"):
        return _COLOURS if _jpeg2000_bits(data) > 8 else None
    if image.mode.startswith("I;16"):
        unit = float(1 << (16 - _jpeg2000_bits(data))) if image.format == "JPEG2000" else 1.0
        return Samples("16-bit", 65535, unit)
    if image.format == "PNG" and ";16" in str(image.tile):
        return Samples("16-bit", 65535) if image.mode == "I" else _COLOURS
    return {"I": Samples("32-bit", None), "F": Samples("float", None)}.get(image.mode)


def eight_bits(image: Image.Image, samples: Samples, white: float | None) -> Image.Image:
    """Return a decoded image in 8-bit grey.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of one band.
    samples : Samples
        What its file says of it.
    white : float or None
        The value of white in the file, if it was given.

    Raises
    ------
    ImageError
        The white level is unknown, or values have no grey level.
    """
    values = _values(image, samples)
    top = _white_level(samples, white)
    _check(values, samples, white)
    if values.dtype in (np.uint8, np.uint16):
        grey = _levels(np.arange(np.iinfo(values.dtype).max + 1), top)[values]
    else:
        grey = _levels(values, top)
    if samples.inverted:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def deep_colours(high: Image.Image, low: Image.Image, white: float) -> Image.Image:
    """Return 16-bit colours in 8 bits by a white level.

    Parameters
    ----------
    high, low : PIL.Image.Image
        RGB or RGBA images of the upper and of the lower 8 bits.
    white : float
        The value of white in the file.
    """
    values = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
    pixels = _levels(np.arange(65536), white)[values]
    pixels[..., 3:] = np.asarray(high)[..., 3:]
    return Image.fromarray(pixels)


def range_doubt(image: Image.Image, samples: Samples | None, white: float | None) -> Doubt:
    """Return what looks wrong with the range of a decoded image, if anything."""
    if samples is None:
        return ""
    if samples.colour:
        bands = image.getextrema()
        peak = max(top for _, top in bands[:3]) << 8  # type: ignore[misc]
        return "dark" if peak < (white or 65535) / _DARK else ""
    values, top = _values(image, samples), _white_level(samples, white)
    if values.max() < top / _DARK:
        return "dark"
    return "clipped" if white is not None and np.mean(values > top) > 0.5 else ""


def decode_lower_bits(image: Any) -> None:
    """Set an opened image of 16-bit colours to decode the lower 8 bits instead of the upper.

    Raises
    ------
    ImageError
        Pillow cannot decode them for this kind of image.
    """
    swapped = []
    for codec, box, offset, args in image.tile:
        raw, *rest = args if isinstance(args, tuple) else (args,)
        if raw not in _OTHER_BYTE or "transparency" in image.info:
            reason = (
                f"{image.format} colours of this kind cannot be read with --white: save as 16-bit "
                "RGB without transparency, in PNG or TIFF"
            )
            raise ImageError(reason)
        other = _OTHER_BYTE[raw]
        swapped.append((codec, box, offset, (other, *rest) if rest else other))
    image.tile = swapped


_FOREIGN = "B" if sys.byteorder == "little" else "L"
#: For each of Pillow's raw modes, the one that takes the other byte of each sample.
_OTHER_BYTE = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "R", "G", "B")
    for order, other in (("L", "B"), ("B", "L"), ("N", _FOREIGN))
}

_COLOURS = Samples("16-bit", 65535, colour=True)


def _of_tiff(image: Any) -> Samples | None:
    """Return the samples of a TIFF by its tags."""
    bits = image.tag_v2.get(_BITS, (1,))[0]
    kind = image.tag_v2.get(_FORMAT, (1,))[0]
    inverted = image.tag_v2.get(_PHOTOMETRIC) == 0
    if image.mode == "F":
        return Samples("float", None, inverted=inverted)
    if image.mode == "I" and bits == 32:
        return Samples("32-bit", None, dtype="" if kind == _SIGNED else "u4", inverted=inverted)
    if image.mode.startswith("I"):
        white = 2 ** (bits - 1) - 1 if kind == _SIGNED else 2**bits - 1
        return Samples(f"{bits}-bit", white, inverted=inverted)
    if image.mode == "L" and kind == _SIGNED:
        return Samples("8-bit", 127, dtype="i1")
    return _COLOURS if bits == 16 else None


def _of_ppm(image: Any) -> Samples | None:
    """Return the samples of a PGM, which Pillow scales to 65535, or of a PPM."""
    args = image.tile[0][3] if image.tile else ""
    largest = args[1] if isinstance(args, tuple) and len(args) > 1 else 65535
    if image.mode == "I":
        return Samples("16-bit", 65535, unit=65535 / largest)
    return _COLOURS if largest > 255 and isinstance(args, tuple) else None


def _jpeg2000_bits(data: bytes) -> int:
    """Return the bits of the first component of a JPEG 2000 file, which Pillow scales to 16."""
    at = data.find(b"\xff\x4f\xff\x51")  # the start of the codestream, and of its sizes
    return min(16, (data[at + 42] & 0x7F) + 1) if 0 <= at < len(data) - 42 else 16


def _values(image: Image.Image, samples: Samples) -> NDArray[Any]:
    """Return the samples as their file has them."""
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.view(samples.dtype) if samples.dtype else values


def _white_level(samples: Samples, white: float | None) -> float:
    """Return the decoded value of white."""
    if white is not None and samples.kind != "8-bit":
        return white * samples.unit
    if samples.white is None:
        example = "1.0" if samples.kind == "float" else "65535"
        reason = (
            f"{samples.kind} pixels have no fixed range: give the value of white, such as "
            f"--white {example}, or save as 8 or 16 bit"
        )
        raise ImageError(reason)
    return samples.white


def _check(values: NDArray[Any], samples: Samples, white: float | None) -> None:
    """Refuse values that have no grey level."""
    if samples.kind == "float" and not np.isfinite(values).all():
        reason = "float pixels that are not finite (NaN or infinite): replace them"
        raise ImageError(reason)
    if white is None and values.dtype.kind == "i" and values.min() < 0:
        way_out = "save as unsigned"
        if samples.kind != "8-bit":
            way_out += ", or give the value of white, such as --white 4095: they become black"
        reason = f"negative pixels ({samples.kind} signed) have no grey level: {way_out}"
        raise ImageError(reason)


def _levels(values: NDArray[Any], top: float) -> NDArray[np.uint8]:
    """Return values between 0 and `top` as 0 to 255, rounded; values outside are clipped."""
    levels = np.floor(values * np.float64(255) / top + 0.5)
    return np.clip(levels, 0, 255).astype(np.uint8)
