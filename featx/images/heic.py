"""HEIC, the format of photos on many phones, through the package pillow-heif.

Bytes come in; an image with the part of Pillow's interface that decoding uses goes out. Pillow
itself has no decoder of HEIC, so pillow-heif comes with the extra "heic".
"""

from functools import cache
from importlib.util import find_spec
from typing import IO, Any

from PIL import Image

__all__ = ["HEIC_SUFFIXES", "INSTALL_HEIC", "HeicImage", "can_decode_heic", "is_heic"]

#: Endings of HEIC files, in lower case.
HEIC_SUFFIXES = (".heic", ".heif", ".hif")

#: The command that installs the decoder.
INSTALL_HEIC = "pip install 'featx[heic]'"

# Brands of still images that are compressed by HEVC; mif1 alone may also be AVIF.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


@cache
def can_decode_heic() -> bool:
    """Return whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def is_heic(start: bytes) -> bool:
    r"""Return whether the first bytes of a file, some 64 of them, are those of HEIC.

    Examples
    --------
    >>> is_heic(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic")
    True
    """
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : int.from_bytes(start[:4], "big")]
    return any(brands[at : at + 4] in _BRANDS for at in range(0, len(brands), 4))


class HeicImage(Image.Image):
    """The main image of a HEIC file, upright; its pixels are decoded by `load`."""

    format = "HEIC"

    def __init__(self, file: IO[bytes], _name: str = "") -> None:
        import pillow_heif

        super().__init__()
        self._heif: Any = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
        self._size, self._mode = self._heif.size, self._heif.mode

    def load(self) -> Any:
        """Decode the pixels, once. Tags of rotation are applied by the decoder."""
        if self._heif is not None:
            self.im = self._heif.to_pillow().im
            self._size, self._mode, self._heif = self.im.size, self.im.mode, None
        return super().load()
