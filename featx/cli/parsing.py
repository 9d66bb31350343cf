"""From the options of a verb to the signature that typer reads, and back to settings.

A verb has parameters whose types are classes of options; `flat` gives typer one parameter
for each option. What the user typed comes back to the verb as one value of each class, and
its `as_settings` are the keyword arguments of the library's function. This file does not
know which options exist; featx/cli/options.py lists them.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, get_args

import typer
from typer.models import ParameterInfo

from featx.choices import check_choices, choices_of
from featx.cli.completion import completion_of
from featx.errors import OptionError

__all__ = [
    "Options",
    "check_arguments",
    "flat",
    "option",
    "read_batch_size",
    "read_decoders",
    "read_numbers",
    "read_renames",
    "read_seconds",
]


def option(text: str, metavar: str | None = None, *names: str, default: str | None = None) -> Any:
    """Return an option with its help; `default` is shown if the library decides the default."""
    return typer.Option(*names, help=text, metavar=metavar, show_default=default or True)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a verb as the user typed them."""

    def __post_init__(self) -> None:
        check_choices(self)

    def as_settings(self) -> dict[str, Any]:
        """Return the keyword arguments of the library's function.

        Options that were not given and have no default are left out.

        Raises
        ------
        OptionError
            A value cannot be read.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: _READERS[name](value) if name in _READERS else value
            for name, value in given.items()
            if value is not None
        }


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse an empty argument: it is a variable that is not set, not the working directory.

    Raises
    ------
    OptionError
        An argument, or the value in --NAME=VALUE, is empty.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument and not re.fullmatch("--[a-zA-Z-]+=", argument):
            continue
        where = argument.rstrip("=") or (before if before.startswith("-") else "")
        after = f" for {where}" if where else ""
        message = f"An argument{after} is empty. Give it a value; a variable may be unset."
        raise OptionError(message)


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the signature that typer reads: every option of its classes by itself.

    Options that have words to choose from show them in their help and complete to them.

    Parameters
    ----------
    command : callable
        A verb; a parameter whose type is a class of options gets a value of that class.

    Returns
    -------
    callable
        The verb, with one parameter for each option.
    """
    parameters = inspect.signature(command).parameters
    classes = {p.name: p.annotation for p in parameters.values() if _is_options(p.annotation)}
    expanded: dict[str, inspect.Parameter] = {}
    for parameter in parameters.values():
        if parameter.name in classes:
            fields = inspect.signature(classes[parameter.name]).parameters
            expanded |= fields
        else:
            expanded[parameter.name] = parameter
    shown = {
        name: each.replace(kind=each.KEYWORD_ONLY, annotation=_as_text(each.annotation))
        for name, each in expanded.items()
    }

    @wraps(command)
    def wrapper(**given: Any) -> None:
        for name, options in classes.items():
            values = {each: given.pop(each) for each in inspect.signature(options).parameters}
            given[name] = options(**values)
        command(**given)

    wrapper.__signature__ = inspect.Signature([*shown.values()])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {name: each.annotation for name, each in shown.items()}
    return wrapper


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _as_text(annotation: Any) -> Any:
    """Return what typer reads; a fixed choice is text for it, since `Options` checks it."""
    if not hasattr(annotation, "__metadata__"):
        return annotation
    kind, *facts = get_args(annotation)
    choices = choices_of(kind)
    for fact in facts:
        if isinstance(fact, ParameterInfo):
            fact.metavar = fact.metavar or "|".join(choices) or None
            fact.autocompletion = completion_of(fact.metavar or "", choices)
    if choices:
        kind = str | None if type(None) in get_args(kind) else str
    return Annotated[kind, *facts]


def read_batch_size(text: str) -> Any:
    """Read a batch size.

    Raises
    ------
    OptionError
        It is neither "auto" nor a number.
    """
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    message = f"--batch-size must be auto or a number of images, but it is {text}."
    raise OptionError(message)


def read_decoders(text: str) -> Any:
    """Read a number of decoding processes; `prepare_extraction` checks it.

    Examples
    --------
    >>> read_decoders("8"), read_decoders("threads")
    (8, 'threads')
    """
    return int(text) if text.isdecimal() else text


def read_renames(texts: list[str]) -> dict[str, str]:
    """Read renames, divided at the last "=": no layer of VGG19 has one in its name.

    Raises
    ------
    OptionError
        One is not OLD=NEW, or two give one OLD different names.

    Examples
    --------
    >>> read_renames(["conv2d_1=block1_conv1", "a=b=block1_conv2"])
    {'conv2d_1': 'block1_conv1', 'a=b': 'block1_conv2'}
    """
    found: dict[str, str] = {}
    for text in texts:
        old, _, new = text.rpartition("=")
        if not old or not new:
            message = (
                f"Cannot read --rename {text}. Use --rename OLD=NEW with a layer of the weights "
                "file and the corresponding VGG19 layer, such as conv2d_1=block1_conv2."
            )
            raise OptionError(message)
        if found.setdefault(old, new) != new:
            message = (
                f"--rename {old}={found[old]} and --rename {text} give one layer two names. Leave "
                "out one of them."
            )
            raise OptionError(message)
    return found


def read_numbers(text: str) -> list[float]:
    """Read numbers that are separated by commas.

    Raises
    ------
    OptionError
        One is not a number.

    Examples
    --------
    >>> read_numbers("1,10")
    [1.0, 10.0]
    """
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        message = f"Cannot read --C {text}. Use numbers separated by commas, such as --C 1,10,100."
        raise OptionError(message) from error


def read_seconds(text: str) -> float:
    """Read a time.

    Raises
    ------
    OptionError
        It is not a number with a unit.

    Examples
    --------
    >>> read_seconds("90s"), read_seconds("1.5h")
    (90.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        message = f"Cannot read --budget {text}. Use a time such as 90s, 10m or 2h."
        raise OptionError(message)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _read_parameters(texts: list[str]) -> dict[str, Any]:
    from featx.fitting.classifiers import read_settings

    return read_settings(texts)


_READERS: dict[str, Callable[[Any], Any]] = {
    "rename": read_renames,
    "batch_size": read_batch_size,
    "decoders": read_decoders,
    "C": read_numbers,
    "budget": read_seconds,
    "settings": _read_parameters,
}
