"""The messages of libtiff, the C library that decodes compressed TIFFs for Pillow.

libtiff prints its errors and warnings to stderr, without a path, and Pillow raises only
"decoder error -2". While a thread is inside `messages`, what libtiff says in it is collected
instead; other threads, and other users of Pillow in the same program, see no difference.
"""

import ctypes
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import _imaging

__all__ = ["messages"]

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)

_LONGEST = 500

_thread = threading.local()
_installing = threading.Lock()


@contextmanager
def messages(errors: list[str]) -> Generator[None, None, None]:
    """Add the errors of libtiff in this thread to a list, and keep its warnings quiet."""
    with _installing:
        _handlers()
    _thread.errors = errors
    try:
        yield
    finally:
        del _thread.errors


@cache
def _handlers() -> list[Any]:
    """Put handlers before libtiff's, once; they must live as long as the process."""
    # The library that Pillow is linked to is found through Pillow's own.
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (AttributeError, OSError, TypeError):
        return []  # a Pillow without libtiff, or Windows: the lines are printed as before
    installed = []
    for setter, keep in zip(setters, (True, False), strict=True):
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        earlier: list[Callable[..., None]] = []
        handler = _Handler(_collector(earlier, keep=keep))
        address = setter(ctypes.cast(handler, ctypes.c_void_p))
        if address:
            earlier.append(_Handler(address))
        installed += [handler, earlier]
    return installed


def _collector(earlier: list[Callable[..., None]], *, keep: bool) -> Callable[..., None]:
    """Return a handler that collects messages, or calls the earlier one in other threads."""

    def handle(module: bytes | None, template: bytes | None, values: int | None) -> None:
        errors = getattr(_thread, "errors", None)
        if errors is None:
            for each in earlier:
                each(module, template, values)
        elif keep:
            text = ctypes.create_string_buffer(_LONGEST)
            ctypes.pythonapi.PyOS_vsnprintf(
                text, ctypes.c_size_t(_LONGEST), template, ctypes.c_void_p(values)
            )
            errors.append(text.value.decode(errors="replace"))

    return handle
