"""The public names: complete, documented, and quick to import."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import featx
from featx import errors

ROOMS = (
    *("images", "network", "store", "dataset", "codes", "metrics"),
    *("extraction", "fitting", "finetuning", "workflows", "report"),
)
HEAVY = {"tensorflow", "keras", "jax", "torch", "matplotlib"}


def test_all_public_names_are_there():
    """Each name of __all__ can be imported, and dir() lists exactly these names."""
    assert dir(featx) == sorted(featx.__all__)
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    with pytest.raises(AttributeError, match="'embed'"):
        featx.embed  # noqa: B018


def test_type_checkers_see_the_public_names():
    """The stub exports every name ("as NAME") under its own name, and nothing else."""
    tree = ast.parse(Path(featx.__file__).with_suffix(".pyi").read_text())
    aliases = [
        each for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names
    ]
    assert all(each.asname == each.name for each in aliases)
    assert sorted(each.name for each in aliases) == featx.__all__


def test_import_loads_nothing_heavy():
    """`import featx` loads neither TensorFlow nor NumPy; the rooms load no TensorFlow."""
    code = (
        "import sys, featx\n"
        f"heavy = {HEAVY | {'pandas', 'sklearn', 'numpy'}!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        f"import importlib\nfor room in {ROOMS!r}: importlib.import_module('featx.' + room)\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def public_objects():
    for room in ("errors", "layers", "outputs", "recipe", *ROOMS):
        module = importlib.import_module(f"featx.{room}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, id=f"{room}.{name}")


def documented_parameters(value):
    """Return the names in the section Parameters of a docstring."""
    text = inspect.getdoc(value) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.M | re.S)
    heads = re.findall(r"^\**(\w[\w, ]*)(?: :.*)?$", section[1], re.M) if section else []
    return [name for head in heads for name in head.split(", ")]


@pytest.mark.parametrize("value", list(public_objects()))
def test_docstrings_name_the_parameters(value):
    """Every public name has a docstring whose section Parameters lists each parameter, in order."""
    assert inspect.getdoc(value)
    if inspect.isclass(value) and "__init__" not in vars(value):
        return
    names = documented_parameters(value)
    parameters = [p for p in inspect.signature(value).parameters if p not in {"self", "args"}]
    if dataclasses.is_dataclass(value):  # a base describes the fields that it adds
        parameters = [name for name in parameters if name in value.__annotations__]
    if names:
        assert names == parameters


def test_the_error_tree_is_complete():
    """Each error class is a FeatxError, is in __all__, and is drawn in the module's docstring."""
    classes = {n for n, c in vars(errors).items() if inspect.isclass(c)}
    assert classes == set(errors.__all__)
    for name in classes:
        assert issubclass(getattr(errors, name), errors.FeatxError)
        assert re.search(rf"^ *\* {name}\b", errors.__doc__, re.M)


def test_every_module_has_a_docstring():
    """A module without a docstring fails here."""
    for module in pkgutil.walk_packages(featx.__path__, "featx."):
        assert importlib.import_module(module.name).__doc__, module.name
