"""Functions whose parameters are listed once, in a settings class.

A dataclass of settings comes in; a function that takes its fields as keyword arguments goes
out, with the types, defaults and documentation of those fields. A verb then adds its own
summary and result, and nothing is listed twice. Type checkers see every parameter
(PEP 612), and so do `help` and editors.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from featx.errors import OptionError

__all__ = [
    "documented_by",
    "method_taking_fields_of",
    "prepared_by",
    "takes_fields_of",
    "values_of",
]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Owner = TypeVar("Owner")
C = TypeVar("C", bound=type)

_HEADING = re.compile(r"^([A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)
# Where numpydoc puts the sections of a docstring.
_ORDER = [
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Notes",
    "References",
    "Examples",
]


def takes_fields_of(settings: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function of a settings value take the fields as arguments instead.

    Parameters
    ----------
    settings : class
        A dataclass; its docstring has a section Parameters with an entry for each field.

    Returns
    -------
    callable
        A decorator for a function of one argument, the settings. The function raises
        OptionError if a field is an empty text.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Paint:
    ...     colour: str = "red"
    >>> @takes_fields_of(Paint)
    ... def paint(settings):
    ...     return settings.colour
    >>> paint(colour="blue"), str(inspect.signature(paint))
    ('blue', "(*, colour: str = 'red')")
    """

    @functools.wraps(settings)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        made = settings(*args, **kwargs)
        _check_texts(made)
        return made

    return _calling_first(checked, _documentation(settings))


def _check_texts(settings: Any) -> None:
    """Refuse an empty text, which is rarely meant: as a path, it would be the working directory."""
    for each in dataclasses.fields(settings):
        value = getattr(settings, each.name)
        texts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(text, str) and not text for text in texts):
            message = (
                f"{each.name} is an empty text. Leave it out, or give it a value; in a shell, a "
                "variable may be unset."
            )
            raise OptionError(message)


def prepared_by(prepare: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function of a job take the arguments of the function that prepares the job.

    Parameters
    ----------
    prepare : callable
        Checks its arguments and returns a job, such as `prepare_extraction`.

    Returns
    -------
    callable
        A decorator for a function of one argument, the job.
    """
    sections = _sections(inspect.getdoc(prepare) or "")
    for own in ("", "Returns", "Examples"):
        sections.pop(own, None)
    return _calling_first(prepare, sections)


def method_taking_fields_of(
    settings: Callable[P, T],
) -> Callable[[Callable[[Owner, T], R]], Callable[Concatenate[Owner, P], R]]:
    """Do for a method what `takes_fields_of` does for a function."""

    def decorate(method: Callable[[Owner, T], R]) -> Callable[Concatenate[Owner, P], R]:
        @functools.wraps(method)
        def wrapper(self: Owner, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, settings(*args, **kwargs))

        owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        fields = inspect.signature(settings).parameters.values()
        wrapper.__signature__ = inspect.Signature([owner, *fields])  # type: ignore[attr-defined]
        return wrapper

    return decorate


def values_of(settings: Any, *bases: type) -> dict[str, Any]:
    """Return the fields that settings inherit from some of their bases, by name.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Paint:
    ...     colour: str = "red"
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Wall(Paint):
    ...     height: float = 2.5
    >>> values_of(Wall(colour="blue"), Paint)
    {'colour': 'blue'}
    """
    names = [field.name for base in bases for field in dataclasses.fields(base)]
    return {name: getattr(settings, name) for name in names}


def documented_by(settings: Any) -> Callable[[C], C]:
    """Add the section Parameters of a settings class to the docstring of another class."""

    def decorate(described: C) -> C:
        sections = _documentation(settings) | _sections(inspect.getdoc(described) or "")
        described.__doc__ = _docstring(sections)
        return described

    return decorate


def _calling_first(
    first: Callable[P, T], documentation: dict[str, str]
) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function of one value take the arguments of the callable that makes the value."""

    def decorate(function: Callable[[T], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(first(*args, **kwargs))

        returns = inspect.signature(function).return_annotation
        signature = inspect.signature(first).replace(return_annotation=returns)
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        annotations = {name: each.annotation for name, each in signature.parameters.items()}
        wrapper.__annotations__ = {**annotations, "return": returns}
        wrapper.__doc__ = _docstring(documentation | _sections(inspect.getdoc(function) or ""))
        return wrapper

    return decorate


def _docstring(sections: dict[str, str]) -> str:
    """Return a docstring with the sections in the order of numpydoc."""
    parts = [sections.get("", "")]
    parts += [f"{name}\n{'-' * len(name)}\n{sections[name]}" for name in _ORDER if name in sections]
    return "\n\n".join(parts) + "\n"


def _documentation(settings: Any) -> dict[str, str]:
    """Return the sections of a settings class and of its bases, entries in order of the fields."""
    sections: dict[str, str] = {}
    entries: dict[str, str] = {}
    for each in filter(dataclasses.is_dataclass, reversed(settings.__mro__)):
        found = _sections(inspect.cleandoc(each.__dict__.get("__doc__") or ""))
        entries |= _entries(found.pop("Parameters", ""))
        found.pop("", None)
        found.pop("Examples", None)
        sections |= found
    names = [name for name in inspect.signature(settings).parameters if name in entries]
    in_order = dict.fromkeys(entries[name] for name in names)  # several names may share an entry
    return {"Parameters": "\n".join(in_order), **sections}


def _sections(text: str) -> dict[str, str]:
    """Divide a docstring into its sections; the one before the first heading is called ""."""
    first, *rest = _HEADING.split(text)
    bodies = (body.strip("\n") for body in rest[1::2])
    return {"": first.strip(), **dict(zip(rest[::2], bodies, strict=True))}


def _entries(section: str) -> dict[str, str]:
    """Divide a section Parameters into entries, by the names that each describes."""
    entries = {}
    for entry in re.split(r"\n(?=\S)", section):  # the lines after the first one are indented
        for name in entry.partition(" : ")[0].split(","):
            entries[name.strip()] = entry.rstrip()
    return entries
