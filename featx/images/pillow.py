"""A copy of Pillow's Python modules that only featx uses, with fixed switches.

Pillow's classes of formats go out, from the copy. Pillow's switches,
limits and warnings belong to the whole program: `ImageFile.LOAD_TRUNCATED_IMAGES`, which many
notebooks set, makes half an image a whole one, and a warning filter can turn a harmless warning
into an error. Codes may not depend on them, and featx must not change them for others. So the
Python files of Pillow are loaded a second time under another name; the compiled decoders are
shared. In the copy:

* a truncated image is an error, and every frame is read the same way;
* the limit of pixels is the one of the image that this thread decodes;
* the texts of a PNG may be of 64 MB in total, of which the first MB of each is unpacked, and
  its colour profile, which is not used, may be of any size;
* warnings and log messages of Pillow are dropped.

`as_pillow_image` returns the pixels of an image of the copy as a `PIL.Image.Image`.
"""

import importlib
import importlib.util
import io
import logging
import sys
import threading
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

import PIL
from PIL import Image

from featx.errors import ImageError
from featx.images.heic import HeicImage, can_decode_heic, is_heic

__all__ = [
    "FORMATS",
    "as_pillow_image",
    "limited_pixels",
    "other_pillow_classes",
    "pillow_classes",
    "tiff_tags",
    "too_many_pixels",
]

#: Formats that are decoded, in the order in which they are tried, and Pillow's module of each.
FORMATS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "WEBP": "WebPImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "ICO": "IcoImagePlugin",
    "DIB": "BmpImagePlugin",
    "TGA": "TgaImagePlugin",
}

_NAME = "featx.images._pil"

# Compiled modules, of which one copy serves both; Pillow may be built without the last two.
_COMPILED = ("_imaging", "_webp", "_avif")

# Of all the texts of a PNG, and of one of them that is compressed; only XMP is used.
_ALL_TEXTS, _ONE_TEXT = 64 << 20, 1 << 20

_limits = threading.local()
_loading = threading.Lock()


@contextmanager
def limited_pixels(max_pixels: int) -> Generator[None, None, None]:
    """Limit the size of everything that this thread decodes, frames and tiles included."""
    _limits.pixels = max_pixels
    try:
        yield
    finally:
        del _limits.pixels


def too_many_pixels(shape: tuple[int, int], max_pixels: int) -> str | None:
    """Return the reason why an image of (width, height) is not decoded, if it is too large."""
    width, height = max(1, shape[0]), max(1, shape[1])
    if height * width <= max_pixels:
        return None
    return (
        f"too many pixels: {height}x{width}, at most {max_pixels:,}: scale it down, or use "
        "--max-pixels"
    )


def pillow_classes() -> Mapping[str, tuple[Any, Any]]:
    """Return Pillow's (class, test of the first bytes) for each format, from the copy.

    Formats that this Pillow cannot decode are missing.
    """
    with _loading:  # the decoding threads start at the same time
        return _loaded()


def other_pillow_classes() -> Mapping[str, tuple[Any, Any]]:
    """Return Pillow's classes of all its formats, to name the format of an unsupported file."""
    pillow_classes()
    with _loading:
        image: Any = sys.modules[f"{_NAME}.Image"]
        image.init()
        _silence()
        return dict(image.OPEN)


def tiff_tags(data: bytes) -> Any:
    """Return the tags of the first image of a TIFF, as far as they can be read."""
    pillow_classes()
    plugin: Any = sys.modules[f"{_NAME}.TiffImagePlugin"]
    tags = plugin.ImageFileDirectory_v2(data[:16] if data[2:3] == b"+" else data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def as_pillow_image(image: Any) -> Image.Image:
    """Return a decoded image of the copy as a `PIL.Image.Image`, with the same memory."""
    if isinstance(image, Image.Image):
        return image
    result = Image.Image()._new(image.im)
    result.info, result.palette = image.info, image.palette
    return result


@cache
def _loaded() -> Mapping[str, tuple[Any, Any]]:
    """Load the copy, set its switches, and return its classes."""
    spec = importlib.util.spec_from_file_location(
        _NAME, PIL.__file__, submodule_search_locations=list(PIL.__path__)
    )
    if spec is None or spec.loader is None:
        message = f"Pillow has no Python files at {PIL.__file__}."
        raise ImportError(message)
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    for each in _COMPILED:
        try:
            sys.modules[f"{_NAME}.{each}"] = module = importlib.import_module(f"PIL.{each}")
        except ImportError:
            continue
        setattr(package, each, module)
    image: Any = importlib.import_module(f"{_NAME}.Image")
    for plugin in set(FORMATS.values()):
        with suppress(ModuleNotFoundError):  # Pillow decodes AVIF since 11.3
            importlib.import_module(f"{_NAME}.{plugin}")
    _set_switches(image)
    found = {name: image.OPEN[name] for name in FORMATS if name in image.OPEN}
    # Before AVIF, which accepts all files of the container that both have.
    return {"HEIC": (HeicImage, is_heic)} | found if can_decode_heic() else found


def _set_switches(image: Any) -> None:
    """Set the limits of the copy, and keep it quiet."""
    image._decompression_bomb_check = _check_pixels
    jpeg: Any = sys.modules[f"{_NAME}.JpegImagePlugin"]
    # The usual factory also looks for a second image.
    image.OPEN["JPEG"] = (jpeg.JpegImageFile, image.OPEN["JPEG"][1])
    png: Any = sys.modules[f"{_NAME}.PngImagePlugin"]
    png.MAX_TEXT_MEMORY = _ALL_TEXTS
    png._safe_zlib_decompress = lambda data: zlib.decompressobj().decompress(data, _ONE_TEXT)
    log = logging.getLogger(_NAME)
    log.addHandler(logging.NullHandler())
    log.propagate = False
    _silence()


def _silence() -> None:
    """Drop the warnings of the modules that are loaded."""
    silent = SimpleNamespace(warn=lambda *_, **__: None)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{_NAME}.") and hasattr(module, "warnings"):
            vars(module)["warnings"] = silent


def _check_pixels(shape: tuple[int, int], **_: object) -> None:
    """Refuse pixels above the limit of this thread."""
    reason = too_many_pixels(shape, getattr(_limits, "pixels", sys.maxsize))
    if reason:
        raise ImageError(reason)
