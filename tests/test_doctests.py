"""The examples in the docstrings run, in the package that is installed."""

import doctest
import importlib
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
