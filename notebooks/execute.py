"""Run notebooks from a clean kernel in place; outputs are saved without traces of this machine.

    python notebooks/execute.py             # all of them
    python notebooks/execute.py explain     # one

The names of notebooks in this folder come in. Each notebook is saved with its outputs, but without
times, output on stderr and the kernel's version, and the seconds that it took are printed. Figures
are saved in 256 colours, which makes them a third as large.
"""

import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent


def smaller(figure: str) -> str:
    """Return a PNG in 256 colours, both in base64."""
    image = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
    written = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def execute(path: Path) -> None:
    """Run one notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        resources={"metadata": {"path": FOLDER}},
    ).execute()
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
            for data in (each.data for each in cell.outputs if "data" in each):
                if "image/png" in data:
                    data["image/png"] = smaller(data["image/png"])
    nbformat.write(notebook, path)


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        began = time.perf_counter()
        execute(FOLDER / f"{name}.ipynb")
        print(f"{name}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
