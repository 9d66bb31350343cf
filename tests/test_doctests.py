"""The examples in the docstrings run, in the package that is installed."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import featx

MODULES = [module.name for module in pkgutil.walk_packages(featx.__path__, "featx.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    """Each example of a module prints what it shows."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    """Examples are found, so that the test above has something to run."""
    finder = doctest.DocTestFinder()
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in found) > 30


def test_examples_of_public_names_are_among_them():
    """Each public name that shows an example has it run by the tests above."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    run = {
        test.name
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }
    shown = set()
    for name in set(featx.__all__) - {"errors", "PRESETS"}:
        thing = getattr(featx, name)
        members = inspect.getmembers(thing, inspect.isroutine) if inspect.isclass(thing) else []
        for each in (thing, *(member for _, member in members)):
            module = getattr(each, "__module__", None) or ""
            if ">>>" in (each.__doc__ or "") and module.startswith("featx."):
                shown.add(f"{module}.{each.__qualname__}")
    assert shown
    assert shown <= run
