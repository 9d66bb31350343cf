"""Every dotted name of featx in the pages and in docstrings refers to an existing object."""

import ast
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"`~?(featx(?:\.\w+)+)(?:\([^`]*)?`")
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/api/*.md"),
    *ROOT.glob("benchmarks/*.md"),
]
#: Files that are called like modules, and pages that speak of the past.
FILES = {"featx.json", "featx.git"}


def sources():
    """Yield the files in which names are looked for, with their text."""
    for path in PAGES:
        if path.name != "CHANGELOG.md":
            yield path, path.read_text(encoding="utf-8")
    for path in [*(ROOT / "featx").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        docs = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, kinds)]
        yield path, "\n".join(docs)


def resolves(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, None)
        return True
    return False


def where(name: str) -> list[str]:
    """Return the files that have a name."""
    return [str(path.relative_to(ROOT)) for path, text in sources() if f"`{name}" in text]


NAMES = sorted({name for _, text in sources() for name in NAME.findall(text)} - FILES)


def test_dotted_names_resolve():
    """A reader who looks a name up finds it."""
    wrong = [name for name in NAMES if not resolves(name)]
    assert {name: where(name) for name in wrong} == {}


def test_names_that_do_not_exist_are_found():
    """The check fails for a name that is not there, and there are names to check."""
    assert resolves("featx.errors.FeatxError")
    assert not resolves("featx.FeatxError")
    assert not resolves("featx.workflows.prediction")
    assert len(NAMES) > 30
