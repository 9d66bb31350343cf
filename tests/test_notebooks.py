"""The notebooks run from the first cell to the last."""

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # those of the notebook's own machinery are not ours
def test_notebook_runs(path, tmp_path):
    """Every cell runs; images and figures are found where the notebook looks for them."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for name in ("data", "docs"):
        (tmp_path / name).symlink_to(path.parents[1] / name)
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path / "notebooks"}}
    )
    client.execute()
    printed = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("accuracy" in out.get("text", "") for out in printed)
