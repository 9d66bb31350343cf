"""Settings as flags: what one types on the command line for them.

Settings come in under the names that functions have for them; flags go out, quoted
for a shell. This file knows no setting.
"""

import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["flags_of"]


def flags_of(settings: Mapping[str, Any], usual: Callable[..., Any] | None = None) -> list[str]:
    """Return settings as one types them.

    Parameters
    ----------
    settings : mapping of str to object
        By name, in the order of the flags. True is the flag alone, and False the one
        that denies it; a list or a tuple repeats the flag, and so does a mapping, with
        KEY=VALUE; None is no flag.
    usual : callable, optional
        A function of such settings: those that are its defaults are left out.

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
