"""The notebooks run from a clean kernel, and give outputs of the committed kinds."""

import json
import re
from pathlib import Path

import pytest
from transcripts import folder_with_data, folder_with_half_of_data

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Traces of the machine that ran a notebook: its folders, and addresses in its memory.
MACHINE = re.compile(r"/tmp/|/work\b|/home/|/Users/|/root/|/var/folders/| at 0x")
MOST_BYTES = 1_000_000
#: This one shows the score without near-duplicates, and half of the images has none.
NEED_ALL_IMAGES = {"quick_start"}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell):
    """Return the output of a cell: names of streams, kinds of images and tables."""
    return {
        kind for out in cell["outputs"] for kind in (out.get("data") or {out.get("name", "error")})
    } - {"stderr"}


def texts(notebook):
    """Return the sources of all cells, and outputs without their images."""
    for cell in notebook["cells"]:
        yield "".join(cell["source"])
        for out in cell.get("outputs", []):
            shown = {k: v for k, v in out.get("data", {}).items() if k != "image/png"}
            yield json.dumps({**out, "data": shown})


def test_there_are_notebooks():
    """The list that the tests below go through is not empty."""
    assert len(NOTEBOOKS) >= 6


@each_notebook
def test_committed_outputs_are_of_one_clean_run(path):
    """Cells were run 1 to n, none failed or warned, and figures are in the file."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell["outputs"]]
    assert {out["output_type"] for out in outputs} <= {"stream", "display_data", "execute_result"}
    assert {out["name"] for out in outputs if out["output_type"] == "stream"} == {"stdout"}
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert path.stat().st_size < MOST_BYTES


@each_notebook
def test_committed_notebook_names_no_machine(path):
    """No folder of the machine that ran it, and no times, are left in it."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = [match.group() for text in texts(notebook) for match in MACHINE.finditer(text)]
    assert not found
    assert all(cell["metadata"] == {} for cell in notebook["cells"])


@each_notebook
def test_first_and_last_cells_guide_the_reader(path):
    """The first cell states what the reader learns; the last one has links that work."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first, last = ("".join(cells[k]["source"]) for k in (0, -1))
    assert "\n\nLearn " in first
    assert "**Next:**" in last
    links = re.findall(r"\]\(([^)#]+)\)", "".join(texts({"cells": cells})))
    assert links
    assert all((path.parent / link).is_file() for link in links if "://" not in link)


@pytest.mark.slow
@each_notebook
@pytest.mark.filterwarnings("default")  # Jupyter itself may warn
def test_notebook_runs(path, tmp_path):
    """Every cell runs, on half of the images if they suffice; the kinds of output are the same."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    (folder_with_data if path.stem in NEED_ALL_IMAGES else folder_with_half_of_data)(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(path, as_version=4)
    committed = [kinds(cell) for cell in code_cells(notebook)]
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    )
    client.execute()
    assert [kinds(cell) for cell in code_cells(notebook)] == committed
    assert not list(folder.iterdir())
