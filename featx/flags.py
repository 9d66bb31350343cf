"""Settings as command-line flags.

Settings come in under the names of their keyword arguments; flags go out, quoted for a
shell. This file does not know which settings exist.
"""

import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["flags_of"]


def flags_of(settings: Mapping[str, Any], usual: Callable[..., Any] | None = None) -> list[str]:
    """Return settings as flags to type on the command line.

    Parameters
    ----------
    settings : mapping of str to object
        Values by name, in the order of the flags. True is the flag alone, False is the flag
        with "--no-". A list or tuple repeats the flag; a mapping repeats it with KEY=VALUE.
        None is left out.
    usual : callable, optional
        A function with such parameters; settings that equal its defaults are left out.

    Returns
    -------
    list of str
        Each flag with its value.

    Examples
    --------
    >>> flags_of({"layer": ("fc1", "fc2"), "scales_join": "mean", "flip": True, "group": None})
    ['--layer fc1', '--layer fc2', '--scales-join mean', '--flip']
    >>> def extract(pool="none", size=224): ...
    >>> flags_of({"pool": "none", "size": "96x128", "rename": {"conv 1": "fc1"}}, extract)
    ['--size 96x128', "--rename 'conv 1=fc1'"]
    """
    parameters = {} if usual is None else inspect.signature(usual).parameters
    flags: list[str] = []
    for name, value in settings.items():
        own = _flags(name, value)
        if name not in parameters or own != _flags(name, parameters[name].default):
            flags += own
    return flags


def _flags(name: str, value: Any) -> list[str]:
    words = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{words}" if value else f"--no-{words}"]
    if isinstance(value, Mapping):
        value = [f"{key}={each}" for key, each in value.items()]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{words} {shlex.quote(str(each))}" for each in values]
