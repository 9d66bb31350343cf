"""The public surface: what is promised is there, documented, and quick to import."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import featx
from featx import errors

ROOMS = (
    *("images", "network", "store", "codes", "dataset", "metrics"),
    *("extraction", "fitting", "finetuning", "workflows", "report"),
)
HEAVY = {"tensorflow", "keras", "jax", "torch", "matplotlib"}


def test_all_public_names_are_there():
    """Each name of __all__ can be had, and dir() shows just those."""
    assert dir(featx) == sorted(featx.__all__)
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    with pytest.raises(AttributeError, match=r"^module 'featx' has no attribute 'embed'$"):
        featx.embed  # noqa: B018


def test_import_loads_nothing_heavy():
    """`import featx` loads neither TensorFlow nor pandas nor scikit-learn; rooms no TensorFlow."""
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
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{room}.{name}")


def documented(thing):
    """Names in the docstring's section Parameters."""
    text = inspect.getdoc(thing) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.M | re.S)
    heads = re.findall(r"^\**(\w[\w, ]*)(?: :.*)?$", section[1], re.M) if section else []
    return [name for head in heads for name in head.split(", ")]


@pytest.mark.parametrize("thing", list(public_objects()))
def test_docstrings_name_the_parameters(thing):
    """Every public name has a docstring; a section Parameters names each parameter, in order."""
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        return
    names = documented(thing)
    parameters = [p for p in inspect.signature(thing).parameters if p not in {"self", "args"}]
    if names:
        assert names == parameters


def test_the_error_tree_is_complete():
    """Each error of errors.py is a FeatxError, is exported, and is drawn in the docstring."""
    classes = {n for n, c in vars(errors).items() if inspect.isclass(c)}
    assert classes == set(errors.__all__)
    for name in classes:
        assert issubclass(getattr(errors, name), errors.FeatxError)
        assert re.search(rf"^ *\* {name}\b", errors.__doc__, re.M)


def test_every_module_says_what_it_is():
    """Each module has a docstring of its own."""
    for module in pkgutil.walk_packages(featx.__path__, "featx."):
        assert importlib.import_module(module.name).__doc__, module.name
