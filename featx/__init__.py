"""featx: CNN codes from any layer of VGG19, and classifiers you can trust on them.

The public names are listed once, in ``__init__.pyi``, which type checkers and editors read. Each
name is imported when it is first used, so ``import featx`` is quick and does not load TensorFlow.
"""

import ast
import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

__version__ = version("featx")

_MODULES = {
    name.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for name in node.names
}

__all__ = sorted(_MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        message = f"module 'featx' has no attribute {name!r}"
        raise AttributeError(message)
    if name == "errors":
        return importlib.import_module("featx.errors")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
