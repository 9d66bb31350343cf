"""JSON documents, checked against the dataclasses that describe them.

The content of a file comes in, as JSON or as the plain values in it; an instance of a dataclass
goes out, or one error that names the first value that does not fit. The type hints of the
dataclass are the schema, and the only one. This module works for any document.
"""

import dataclasses
import functools
import json
import math
import stat
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["FieldError", "any_float", "check_format", "conform", "read_json"]

T = TypeVar("T")

#: Larger integers are not exact in every reader of JSON, and nothing here counts so far.
_MOST = 2**53
_NAMES = {str: "text", bool: "true or false", int: "an integer", float: "a finite number"}


class FieldError(ValueError):
    """Raised if a value of a document does not fit.

    Parameters
    ----------
    reason : str
        What was found and what was expected.
    place : str, default=""
        Where the value is, such as ".rows[3].accuracy"; empty for the whole document.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{place.removeprefix('.')}: {reason}" if place else reason)
        self.reason, self.place = reason, place

    def below(self, step: str) -> "FieldError":
        """Return the same error for a document that has this one at `step`."""
        return FieldError(self.reason, f"{step}{self.place}")


def read_json(path: Path | str) -> Any:
    """Read a file of JSON.

    Raises
    ------
    OSError
        The file cannot be opened, or it is a folder, a pipe or a device.
    FieldError
        Its bytes are not JSON.
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        message = "not a regular file"
        raise OSError(message)
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"the file is not JSON ({error})"
        raise FieldError(message) from error


def check_format(facts: Any, name: str, version: int) -> None:
    """Refuse a document of another format or version; one without a version has version 1.

    Raises
    ------
    FieldError
        `facts` is not an object with this format and version.
    """
    _check(isinstance(facts, dict), "an object", facts)
    if facts.get("format") != name:
        message = f"expected {name!r}, but found {facts.get('format')!r:.60}"
        raise FieldError(message, ".format")
    if (found := facts.get("format_version", 1)) != version:
        message = f"this featx reads version {version}, but found version {found!r:.60}"
        raise FieldError(message, ".format_version")


def any_float(value: Any) -> float:
    """Return a number that may be infinite or not a number, for `Annotated`."""
    return float(value) if type(value) is float else conform(float, value)


def conform(kind: type[T], value: Any) -> T:
    """Return a plain value as an instance of a type.

    Parameters
    ----------
    kind : type
        A dataclass or any other type whose parts are dataclasses, tuples, sequences, mappings
        from str, Literals, unions with None, str, int, float, bool or Any. A function in
        ``Annotated[T, function]`` takes the plain value and returns T; its ValueError,
        TypeError or LookupError means that the value does not fit.
    value : object
        What `json.loads` returned. Fields that a dataclass does not have are ignored; fields
        that it has and the value lacks get their defaults.

    Raises
    ------
    FieldError
        A value does not fit. The message names its place.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     x: float
    ...     tags: tuple[str, ...] = ()
    >>> conform(Point, {"x": 1, "tags": ["red"]})
    Point(x=1.0, tags=('red',))
    >>> conform(dict[str, Point], {"a": {"x": 0, "tags": [5]}})
    Traceback (most recent call last):
    featx.documents.FieldError: a.tags[0]: expected text, but found 5
    """
    converted: T = _convert(kind, value)
    return converted


def _convert(kind: Any, value: Any) -> Any:
    """Return a plain value as `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _instance(kind, value)
    if origin is Annotated:
        return _converted_by(arguments[1], value)
    if origin in {Union, types.UnionType}:
        return _member(arguments, value)
    if origin in {tuple, list, Sequence}:
        items = _items(arguments, value)
        return list(items) if origin is list else tuple(items)
    if origin in {dict, Mapping}:
        return dict(_entries(arguments[1], value))
    return _single(kind, value)


def _converted_by(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except FieldError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise FieldError(str(error)) from error


def _member(kinds: tuple[Any, ...], value: Any) -> Any:
    """Return a value as the one member of a union that can hold it."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _convert(kind, value)
        except FieldError:
            continue
    return _convert(others[-1], value)


def _instance(kind: Any, value: Any) -> Any:
    """Return an object of JSON as an instance of a dataclass."""
    _check(isinstance(value, dict), "an object", value)
    fields = {}
    for name, hint, required in _fields_of(kind):
        if name in value:
            with_name = functools.partial(_convert, hint)
            fields[name] = _at(f".{name}", with_name, value[name])
        elif required:
            message = "this field is missing"
            raise FieldError(message, f".{name}")
    return _converted_by(lambda each: kind(**each), fields)


@functools.cache
def _fields_of(kind: Any) -> list[tuple[str, Any, bool]]:
    """Return the name and the type of each field of a dataclass, and whether it is required."""
    hints = get_type_hints(kind, include_extras=True)
    missing = dataclasses.MISSING
    return [
        (each.name, hints[each.name], each.default is missing and each.default_factory is missing)
        for each in dataclasses.fields(kind)
    ]


def _items(kinds: tuple[Any, ...], value: Any) -> Iterator[Any]:
    """Yield the items of a list; ``(T, ...)`` and ``(T,)`` allow any number of them."""
    _check(isinstance(value, list), "a list", value)
    if len(kinds) == 1 or kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    _check(len(value) == len(kinds), f"{len(kinds)} items", value)
    for k, (kind, item) in enumerate(zip(kinds, value, strict=True)):
        yield _at(f"[{k}]", functools.partial(_convert, kind), item)


def _entries(kind: Any, value: Any) -> Iterator[tuple[str, Any]]:
    _check(isinstance(value, dict), "an object", value)
    for name, item in value.items():
        yield name, _at(f".{name:.60}", functools.partial(_convert, kind), item)


def _at(step: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except FieldError as error:
        raise error.below(step) from error


def _single(kind: Any, value: Any) -> Any:
    """Return a value without parts; true is not a number."""
    if kind is Any:
        return value
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return _check(value in choices, f"one of {', '.join(map(repr, choices))}", value)
    if kind is float and type(value) is int and abs(value) <= _MOST:
        value = float(value)
    fits = type(value) is kind
    if kind is int:
        fits = fits and abs(value) <= _MOST
    elif kind is float:
        fits = fits and math.isfinite(value)
    return _check(fits, _NAMES.get(kind, getattr(kind, "__name__", "another type")), value)


def _check(fits: bool, expected: str, value: Any) -> Any:
    """Return a value that fits."""
    if not fits:
        found = f"{value!r:.60}" if isinstance(value, str | int | float | None) else _kind(value)
        message = f"expected {expected}, but found {found}"
        raise FieldError(message)
    return value


def _kind(value: Any) -> str:
    n = len(value)
    return f"a list of length {n}" if isinstance(value, list) else f"an object of {n} fields"
