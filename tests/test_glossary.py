"""The forbidden phrases of docs/glossary.md are in none of the places where it forbids them."""

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from wording import ROOT, SNAPSHOT, messages, snapshot

import featx
from featx.cli.app import app

GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "api").glob("*.md")),
]
PLACES = ("flags", "names", "headings", "help", "messages", "docstrings", "docs")


def rows() -> Iterator[tuple[str, set[str]]]:
    """Yield each forbidden phrase with its places."""
    table = GLOSSARY.read_text(encoding="utf-8").partition("## Forbidden phrases")[2]
    for line in table.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            places = set(re.split(r",\s*", cells[2]))
            phrase = cells[0].strip("`").replace(r"\|", "|")
            yield phrase, set(PLACES) if places == {"everywhere"} else places


def commands(command: Any) -> Iterator[Any]:
    """Yield a command and its subcommands; classes are not checked, as typer may bring its own."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from commands(each)


def flags() -> Iterator[str]:
    for command in commands(typer.main.get_command(app)):
        for each in command.params:
            yield from (word.replace("-", " ") for word in (*each.opts, *each.secondary_opts))


def helps() -> Iterator[str]:
    for command in commands(typer.main.get_command(app)):
        yield command.help or ""
        yield from (each.help for each in command.params if getattr(each, "help", None))


def modules() -> Iterator[object]:
    for each in pkgutil.walk_packages(featx.__path__, "featx."):
        yield importlib.import_module(each.name)


def names() -> Iterator[str]:
    """Yield public names as words: HeldOutPredictions is "Held Out Predictions"."""
    for module in modules():
        for name in [module.__name__, *getattr(module, "__all__", ())]:
            yield re.sub(r"(?<=[a-z])(?=[A-Z])|[_.]", " ", name)


def docstrings() -> Iterator[str]:
    """Yield the docstrings of modules, classes and functions, without their examples."""
    for path in sorted((ROOT / "featx").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield (ast.get_docstring(node) or "").partition("Examples\n-----")[0]


def pages() -> Iterator[str]:
    """Yield the text of pages and of the notebooks' cells, except the glossary's own table."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        yield text.partition("## Forbidden phrases")[0] if path == GLOSSARY else text
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                yield "".join(cell["source"])


def headings() -> Iterator[str]:
    for page in pages():
        text = re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)
        yield from re.findall(r"^#{1,6} +(.+?)\s*$", text, re.M)


def texts(place: str) -> list[str]:
    """Return the texts of a place."""
    found = {
        "flags": flags,
        "names": names,
        "headings": headings,
        "help": helps,
        "messages": lambda: (text for own in messages().values() for text in own),
        "docstrings": docstrings,
        "docs": pages,
    }
    return list(found[place]())


@pytest.fixture(scope="module")
def places():
    """Return the texts of all places, read once."""
    return {place: texts(place) for place in PLACES}


def hits(phrase: str, texts: list[str]) -> list[str]:
    """Return the lines around each match of a phrase."""
    pattern = re.compile(phrase, re.IGNORECASE)
    found = []
    for text in texts:
        joined = " ".join(text.split())
        for match in pattern.finditer(joined):
            found.append(joined[max(0, match.start() - 40) : match.end() + 40])
    return found


@pytest.mark.parametrize(("phrase", "where"), list(rows()))
def test_forbidden_phrases_are_gone(places, phrase, where):
    """No text of a place has a phrase that is forbidden there."""
    assert where <= set(PLACES)
    found = {place: hits(phrase, places[place]) for place in sorted(where)}
    assert {place: lines for place, lines in found.items() if lines} == {}


def test_a_phrase_that_comes_back_is_found(places):
    """The search looks at every place, and finds a phrase that is put back."""
    assert all(len(found) > 20 for found in places.values())
    assert hits(r"\broads?\b", ["The road streamed\nfits once."])
    assert hits(r"^what\b", ["What a run did."])
    assert not hits(r"(?<!there )\b(is|are) no (?!longer|more\b)", ["there is no file"])
    assert len(list(rows())) >= 25


def test_the_snapshot_holds_every_message():
    """tests/messages.txt is up to date; `python tests/wording.py` writes it."""
    assert SNAPSHOT.read_text(encoding="utf-8") == snapshot()
