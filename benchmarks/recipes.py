"""Recipes beside each other: one pass a scale and mirror image stores the parts, recipes join them.

    python benchmarks/recipes.py rsscn7_350 hymenoptera --stores parts -o docs/recipes.csv

Takes folders of images; of those with splits, train is judged. Every number is nested:
a fold's penalty is chosen inside its training part. The recipe called best is chosen
on one half of the first folder and on all of the others, and judged on the other half,
beside the best single layer at 224 that was chosen on the same images. In bfloat16.

The codes of a recipe are joined from parts as `featx extract` would have made them
(tests/test_recipe_benchmark.py compares them), and `gflop` is what that would cost an image of
the first folder's first shape.
"""

import argparse
import csv
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from measuring import measured
from views import rate

from featx.layers import deepest, gflop

BLOCKS = ("block2_pool", "block3_pool", "block4_pool", "block5_pool")
LATE = BLOCKS[2:]
SQUASHED = 224
FIELDS = ("images", "recipe", "n", "accuracy", "low", "high", "width", "gflop", "images_per_second")
# Images of each pass whose time is taken.
SAMPLE = 40


@dataclasses.dataclass(frozen=True)
class Part:
    """What one pass gives: a scale, or 224 squashed; upright, or averaged with its mirror image."""

    scale: int | None = None
    flip: bool = False

    @property
    def settings(self) -> dict:
        """What featx extract is told."""
        return {"scale": self.scale or (), "flip": self.flip}


@dataclasses.dataclass(frozen=True)
class Way:
    """A recipe, and how its codes are fitted."""

    name: str
    layers: tuple[str, ...]
    parts: tuple[Part, ...] = (Part(),)
    join: str = "mean"
    pool: str = "avg"
    normalise: str = "l2"


def flipped(*scales: int) -> tuple[Part, ...]:
    return tuple(Part(scale, flip=True) for scale in scales)


WAYS = (
    *(Way(f"{layer[:6]}, 224", (layer,)) for layer in BLOCKS),
    Way("blocks 4 and 5, 224", LATE),
    Way("blocks 2 to 5, 224", BLOCKS),
    Way("blocks 2 to 5, 256", BLOCKS, (Part(256),)),
    Way("block4, 384", ("block4_pool",), (Part(384),)),
    Way("blocks 2 to 5, 384", BLOCKS, (Part(384),)),
    Way("blocks 2 to 5, 384, roots", BLOCKS, (Part(384),), normalise="sqrt-l2"),
    Way("blocks 2 to 5, 384, flip", BLOCKS, flipped(384)),
    Way("blocks 4 and 5, 256 and 384, flip", LATE, flipped(256, 384)),
    Way("blocks 2 to 5, 256 and 384, flip", BLOCKS, flipped(256, 384)),
    Way("blocks 2 to 5, 256 and 384 stacked, flip", BLOCKS, flipped(256, 384), "stack"),
    Way(
        "blocks 2 to 5, 256 and 384 stacked, flip, roots",
        BLOCKS,
        flipped(256, 384),
        "stack",
        normalise="sqrt-l2",
    ),
    Way("block5, 256, 384 and 512 stacked, flip", LATE[1:], flipped(256, 384, 512), "stack"),
    Way("blocks 2 to 5, 256, 384 and 512, flip", BLOCKS, flipped(256, 384, 512)),
    Way("block3 bilinear, 224", ("block3_pool",), pool="bilinear"),
    Way("block4 bilinear, 224", ("block4_pool",), pool="bilinear"),
    Way("block4 bilinear, 384", ("block4_pool",), (Part(384),), pool="bilinear"),
)
#: The single layers that `best` has to beat.
SINGLE = tuple(way for way in WAYS if len(way.layers) == 1 and way.parts == (Part(),))


def extract_parts(folder: Path, stores: Path) -> None:
    """Fill the stores of every part, each in one pass; those that are there are gone on with."""
    from featx.extraction import prepare_extraction, run_extractions

    for part in dict.fromkeys(itertools.chain.from_iterable(way.parts for way in WAYS)):
        wanted: dict[str, set[str]] = {}
        for way in WAYS:
            if part in way.parts:
                wanted.setdefault(way.pool, set()).update(way.layers)
        jobs = [
            prepare_extraction(
                folder,
                layer=sorted(layers),
                pool=pool,
                precision="bfloat16",
                output=store_of(stores, folder, part, pool),
                **part.settings,
            )
            for pool, layers in wanted.items()
        ]
        made = run_extractions(jobs)[0]
        if made.n_computed:
            print(f"{folder.name} {part}: {made.images_per_second:.2f} images/s", flush=True)


def store_of(stores: Path, folder: Path, part: Part, pool: str) -> Path:
    mirrored = "-flip" if part.flip else ""
    return stores / f"{folder.name}-{part.scale or SQUASHED}{mirrored}-{pool}.h5"


def job_of(way: Way, folder: Path, stores: Path, temporary: Path, labels: Path | None):
    """Return the job of fitting a recipe's codes, joined from parts."""
    from featx.fitting import prepare_fit

    path = temporary / f"{folder.name}-{WAYS.index(way)}.h5"
    if not path.exists():
        join_parts([store_of(stores, folder, part, way.pool) for part in way.parts], way, path)
    table = {} if labels is None else {"labels": labels}
    return prepare_fit(path, normalise=way.normalise, baselines=False, **table)


def join_parts(parts: Sequence[Path], way: Way, path: Path) -> None:
    """Write the store that an extraction at all the parts' scales would have made."""
    from featx.store import ImageFacts, StoreWriter, create_store, open_store

    opened = [open_store(part) for part in parts]
    first = opened[0]
    recipe = dataclasses.replace(first.recipe, layers=way.layers)
    if len(parts) > 1:
        scales = tuple(part.scale for part in way.parts)
        recipe = dataclasses.replace(recipe, scales=scales, scales_join=way.join)
    images, thumbnails = first.images, first.thumbnails()
    columns = {name: list(getattr(images, name)) for name in ("path", "label", "split", "group")}
    create_store(path, recipe, columns, dict(first.provenance))
    done = np.flatnonzero(images.done)
    codes = {}
    for layer in way.layers:
        each = [store.read_rows(layer, done) for store in opened]
        joined = np.concatenate(each, axis=1) if way.join == "stack" else np.mean(each, axis=0)
        codes[layer] = joined.astype(np.float32).reshape(len(done), *recipe.code_shape(layer))
    facts = [
        ImageFacts(str(images.sha256[row]), int(images.phash[row]), thumbnails[row]) for row in done
    ]
    with StoreWriter(path) as writer:
        writer.write_done(done, codes, facts)
        failed = np.flatnonzero(~images.done)
        if len(failed):
            reasons = [str(images.reason[row]) for row in failed]
            writer.write_failed(failed, reasons, [str(images.sha256[row]) for row in failed])
        writer.finish()


def halves(folder: Path, stores: Path, temporary: Path) -> tuple[Path, Path]:
    """Write two tables that label one half of a folder each; copies and classes are shared out."""
    from featx.dataset.folds import make_folds
    from featx.fitting import prepare_fit

    job = prepare_fit(store_of(stores, folder, Part(), "avg"), baselines=False)
    paths, tables = job.joined.images.path[job.rows], []
    for k, (_, own) in enumerate(make_folds(job.y, job.groups, 0, 2)):
        lines = [f"{paths[row]},{job.y[row]}" for row in own]
        tables.append(temporary / f"half-{k}.csv")
        tables[-1].write_text("\n".join(["path,label", *lines]) + "\n")
    return tables[0], tables[1]


def gflop_of(way: Way, folder: Path, stores: Path) -> float:
    """Return the arithmetic of an image of a folder: of all scales, mirror images too."""
    from PIL import Image

    from featx.images import scaled_size
    from featx.store import open_store

    store = open_store(store_of(stores, folder, way.parts[0], way.pool))
    with Image.open(folder / str(store.images.path[store.images.done][0])) as image:
        shape = image.size[::-1]
    cut = deepest(way.layers)
    return sum(
        (1 + part.flip)
        * gflop(cut, scaled_size(shape, part.scale) if part.scale else (SQUASHED, SQUASHED))
        for part in way.parts
    )


def seconds_of(folder: Path) -> dict[Part, float]:
    """Return how long an image takes through the whole network, for each part."""
    parts = dict.fromkeys(itertools.chain.from_iterable(way.parts for way in WAYS))
    return {
        part: measured(rate, folder, SAMPLE, "bfloat16", part.settings)["seconds"] for part in parts
    }


def images_per_second(way: Way, seconds: dict[Part, float]) -> float:
    """Return a recipe's rate: of its passes, cut where it is cut."""
    of_whole = gflop(deepest(way.layers), (SQUASHED, SQUASHED)) / gflop(
        BLOCKS[-1], (SQUASHED, SQUASHED)
    )
    return 1 / (of_whole * sum(seconds[part] for part in way.parts))


def rows_of(folder: Path, stores: Path, temporary: Path) -> Iterator[tuple[dict, object]]:
    """Judge every recipe on a folder; yield what is written of it, and the judgement."""
    from featx.fitting.cross_validation import cross_validate

    seconds = seconds_of(folder)
    for way in WAYS:
        job = job_of(way, folder, stores, temporary, None)
        found = cross_validate(job)
        score = found.accuracy
        yield (
            {
                "images": folder.name,
                "recipe": way.name,
                "n": len(found.y),
                "accuracy": round(score.value, 4),
                "low": round(score.low, 4),
                "high": round(score.high, 4),
                "width": job.joined.recipe.n_features,
                "gflop": round(gflop_of(way, folder, stores), 1),
                "images_per_second": round(images_per_second(way, seconds), 2),
            },
            found,
        )


def best_of(folders: Sequence[Path], stores: Path, temporary: Path, judged: dict) -> list[str]:
    """Choose on one half of the first folder and on the others, judge on the other half."""
    from featx.fitting.cross_validation import cross_validate
    from featx.fitting.nested_selection import compare

    first = folders[0]
    chosen_on, judged_on = halves(first, stores, temporary)

    def merit(way: Way) -> float:
        half = cross_validate(job_of(way, first, stores, temporary, chosen_on)).accuracy.value
        others = [judged[folder.name, way.name].accuracy.value for folder in folders[1:]]
        return float(np.mean([half, *others]))

    merits = {way: merit(way) for way in WAYS}
    best, single = max(WAYS, key=merits.__getitem__), max(SINGLE, key=merits.__getitem__)
    found = {
        way: cross_validate(job_of(way, first, stores, temporary, judged_on))
        for way in (best, single)
    }
    gain = compare(found[best], found[single])
    return [
        f"best, chosen on half of {first.name}"
        f"{''.join(f' and {folder.name}' for folder in folders[1:])}: {best.name} "
        f"(mean {merits[best]:.3f})",
        f"best single layer at {SQUASHED}, chosen likewise: {single.name} "
        f"(mean {merits[single]:.3f})",
        f"on the other half of {first.name}, {len(found[best].y)} images: {found[best].accuracy} "
        f"and {found[single].accuracy}",
        f"difference {gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f} with 95 % confidence "
        "(paired bootstrap)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--stores", type=Path, default=Path("parts"))
    parser.add_argument("-o", "--output", type=Path, default=Path("recipes.csv"))
    given = parser.parse_args()
    given.stores.mkdir(exist_ok=True)
    for folder in given.folders:
        extract_parts(folder, given.stores)
    judged = {}
    with tempfile.TemporaryDirectory(dir=given.stores) as temporary, given.output.open("w") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        print("| images | recipe | accuracy | width | GFLOP | images/s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for folder in given.folders:
            for row, found in rows_of(folder, given.stores, Path(temporary)):
                table.writerow(row)
                judged[folder.name, row["recipe"]] = found
                print(
                    f"| {row['images']} | {row['recipe']} | {found.accuracy} | {row['width']:,} | "
                    f"{row['gflop']} | {row['images_per_second']} |",
                    flush=True,
                )
        for line in best_of(given.folders, given.stores, Path(temporary), judged):
            print(line, flush=True)


if __name__ == "__main__":
    main()
