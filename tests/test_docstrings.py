"""The docstrings of what users are promised are sound: numpydoc reads them and finds no fault.

The pages of docs/api list the stable names that are not in `featx.__all__`.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import featx

API = Path(__file__).parents[1] / "docs" / "api"
#: Faults that are none: a name may do without an example, other names to see, and more words.
#: A directive of Sphinx (GL09, GL10) or a wrong order of sections (GL07) are faults.
ALLOWED = {"EX01", "SA01", "ES01"}


def on_the_pages():
    """Names that a page of docs/api documents, as it spells them."""
    pages = sorted(API.glob("*.md"))
    return [
        name
        for page in pages
        for name in re.findall(r"^\.\. auto\w+:: (featx\.\S+)$", page.read_text("utf-8"), re.M)
    ]


def thing(name):
    """Return the object that a dotted name refers to."""
    found, *rest = featx, *name.split(".")[1:]
    path = "featx"
    for part in rest:
        path = f"{path}.{part}"
        found = getattr(found, part, None) or importlib.import_module(path)
    return found


def promised():
    """Every promised name, and the public methods and properties of every class."""
    names = [f"featx.{name}" for name in featx.__all__ if name not in {"errors", "PRESETS"}]
    for name in dict.fromkeys([*names, *on_the_pages()]):
        yield name
        if inspect.isclass(thing(name)):
            for member, value in vars(thing(name)).items():
                kinds = property | classmethod | staticmethod
                if not member.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, kinds)
                ):
                    yield f"{name}.{member}"


def test_every_public_name_is_on_a_page():
    """Every name of `featx.__all__` is on a page of docs/api, once."""
    names = on_the_pages()
    assert sorted(set(names)) == sorted(names)
    errors = {f"featx.errors.{name}" for name in featx.errors.__all__}
    assert errors <= set(names)
    missing = {f"featx.{name}" for name in featx.__all__} - set(names)
    # Not a class or a function: the first is a module, the second a table of Preset.
    assert missing == {"featx.errors", "featx.PRESETS"}
    assert "featx.PRESETS" in (API / "extraction.md").read_text("utf-8")


@pytest.mark.parametrize("name", list(promised()))
def test_docstring_is_sound(name):
    """Parameters, results and their types are described, in numpydoc's form."""
    numpydoc = pytest.importorskip("numpydoc.validate")
    thing(name)  # its module is imported, which numpydoc leaves to us
    faults = numpydoc.validate(name)["errors"]
    assert [fault for fault in faults if fault[0] not in ALLOWED] == []


@pytest.mark.parametrize("name", list(promised()))
def test_references_are_in_the_docstring_that_cites_them(name):
    """[1]_ leads to a reference of the same docstring, and not from its first line."""
    text = inspect.getdoc(thing(name)) or ""
    cited = set(re.findall(r"\[(\d+)\]_", text))
    assert cited == set(re.findall(r"^ *\.\. \[(\d+)\]", text, re.M))
    assert "]_" not in text.partition("\n")[0]
