"""Write tests/data/format-1/codes.h5, the golden file of format 1.

Run once for each new format version, with a new folder, and never again for an
old one: the file stands for what users have on their disks. Its values are
chosen so that tests/test_store.py can spell them by hand.
"""

from pathlib import Path

import numpy as np

from featx.recipe import Recipe
from featx.store import ImageFacts, StoreWriter, create_store
from featx.store.layout import FORMAT_VERSION

WIDTHS = {"block1_conv1": 64, "block2_conv1": 128}
COLUMNS = {
    "path": ["train/cat/a.png", "train/cat/é.png", "val/dog/\udcff.png", "val/dog/d.png", "e.png"],
    "label": ["cat", "cat", "dog", "dog", None],
    "split": ["train", "train", "val", "val", None],
    "group": ["tom", "tom", None, "rex", None],
}


def write_golden(path: Path) -> None:
    """Write rows 0, 1 and 4; row 2 failed; row 3 is pending."""
    recipe = Recipe(
        weights="random:7", layers=tuple(WIDTHS), pool="max", size=(32, 48), dtype="float16"
    )
    create_store(path, recipe, COLUMNS, {"featx": "0.1.0", "root": "/data"})
    rows = np.array([0, 1, 4])
    # Number k of row i is i + k/256, plus 8 in the second layer: exact in float16.
    codes = {
        layer: rows[:, None] + np.arange(width) / 256 + 8 * n
        for n, (layer, width) in enumerate(WIDTHS.items())
    }
    facts = [
        ImageFacts(f"{i}" * 64, phash=2**63 + i, thumbnail=np.full((32, 32, 3), 10 * i, np.uint8))
        for i in rows.tolist()
    ]
    with StoreWriter(path) as writer:
        writer.write_done(rows, codes, facts)
        writer.write_failed(np.array([2]), ["not an image: ü"], ["f" * 64])


if __name__ == "__main__":
    target = Path(__file__).parent / f"format-{FORMAT_VERSION}" / "codes.h5"
    target.parent.mkdir(exist_ok=True)
    write_golden(target)
