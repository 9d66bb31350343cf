"""The pages of docs/ are true: snippets run, every verb has a heading, nothing is left out."""

import re
import runpy
import shutil
from pathlib import Path

import h5py
import numpy as np
import typer

from featx.cli.app import app
from featx.recipe import Recipe
from featx.store.layout import __doc__ as layout

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GOLDEN = ROOT / "tests" / "data" / "format-1" / "codes.h5"


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def snippets(name):
    """The Python of a page, as one script."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", read(name), re.M | re.S))


def test_the_format_page_reads_a_store_without_featx(tmp_path, monkeypatch):
    """The snippets of the page read the values of the golden file that tests/test_store.py has."""
    shutil.copy(GOLDEN, tmp_path / "codes.h5")
    script = tmp_path / "read.py"
    script.write_text(snippets("store-format.md"), encoding="utf-8")
    assert "featx." not in script.read_text()
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(script))
    assert found["recipe"]["layers"] == ["block1_conv1", "block2_conv1"]
    assert list(found["done"]) == [0, 1, 4]
    assert list(found["paths"]) == ["train/cat/a.png", "train/cat/é.png", "e.png"]
    assert found["labels"] == ["cat", "cat", None]
    assert found["codes"][1, :3].tolist() == [1.0, 1.00390625, 1.0078125]
    assert found["codes"][2, 63] == 4.24609375
    assert found["is_complete"] is False
    assert np.array_equal(found["mapped"][[0, 1, 4]], found["codes"])


def test_the_format_page_names_what_the_file_holds():
    """Its table has every dataset and attribute of a store, and no others."""
    table = set(
        re.findall(r"^\| (?:attribute )?`([^`]+)`.* \| .* \| .* \|$", read("store-format.md"), re.M)
    )
    with h5py.File(GOLDEN) as file:
        held = {"codes/LAYER"}
        file.visititems(
            lambda name, item: (
                held.add(name)
                if isinstance(item, h5py.Dataset) and not name.startswith("codes/")
                else None
            )
        )
        names = {f"/{name}" for name in held} | set(file.attrs)
    fields = set(Recipe.__dataclass_fields__)
    assert table == names | fields
    # The table at the top of the code has the same.
    assert names == set(
        re.findall(r"^(?:attribute )?(/\S+|\w+(?=  )|\w+(?= str| int))", layout, re.M)
    ) - {"name"}


def test_the_format_page_is_right_about_defaults():
    """Its table has the defaults of a recipe without optional fields."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\S.*?) \|$", read("store-format.md"), re.M)
    said = {
        field: value.strip("`") for field, value in rows if field in Recipe.__dataclass_fields__
    }
    required = {field for field, value in said.items() if value == "(required)"}
    assert required == {"weights", "layers", "size"}
    short = '{"weights": "random:0", "layers": ["block1_pool"], "size": [32, 32]}'
    recipe = Recipe.from_json(short)
    for field in set(said) - required:
        value = getattr(recipe, field)
        spelt = (
            {False: "false", (): "empty", None: "null"}.get(value, str(value))
            if value != 1
            else "1"
        )
        assert said[field] == spelt, field


def test_every_verb_has_a_heading_and_its_help():
    """The page of the command line has each verb of the program, and no other."""
    verbs = set()
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        verbs |= {f"{name} {each}" for each in inner} if inner else {name}
    page = read("command-line.md")
    assert set(re.findall(r"^## featx (.+)$", page, re.M)) == verbs
    assert set(re.findall(r"^```\{featx-help\} (.+)$", page, re.M)) == verbs


def test_every_page_and_notebook_is_in_the_contents():
    """Every page of docs/ and notebooks/ is listed by another page."""
    listed = set()
    for page in ("index.md", "guide.md", "examples.md", "reference.md", "background.md"):
        for contents in re.findall(r"^```\{toctree\}\n(.*?)^```", read(page), re.M | re.S):
            listed |= set(re.findall(r"^(?:[^:<\n]*<)?([\w/-]+)>?$", contents, re.M))
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert pages | notebooks | {"api/index"} <= listed
    inner = set(re.findall(r"^([\w-]+)$", read("api/index.md"), re.M))
    assert {path.stem for path in (DOCS / "api").glob("*.md")} - {"index"} <= inner


def test_the_architecture_page_names_every_room():
    """Each folder and module at the top of the package has its line."""
    page = read("architecture.md")
    rooms = {
        p.name for p in (ROOT / "featx").iterdir() if p.is_dir() and not p.name.startswith("_")
    }
    modules = {p.name for p in (ROOT / "featx").glob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"`(\w+)/?`", "".join(re.findall(r"^\| .*", page, re.M))))
    assert rooms <= named
    assert all(f"`{name}`" in page for name in modules)
