"""Compare recipes, whose codes are joined from one pass for each scale.

    python benchmarks/recipes.py rsscn7_350 hymenoptera --stores parts -o docs/recipes.csv

The arguments are folders of images; if a folder has splits, train is used. Accuracies are nested:
the penalty of each fold is chosen inside its training set. The best recipe is chosen on one half
of the first folder and on the other folders, and is scored on the other half, as is the best
single layer at 224 chosen on the same images. The precision is bfloat16.

The codes of a recipe are joined from passes and equal those of `featx extract`
(tests/test_recipe_benchmark.py compares them). `gflop` is the arithmetic of one image with the
shape of the first image of the folder.
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
# Images per pass whose time is measured.
SAMPLE = 40


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass: a scale, or 224 squashed, with or without the mirror image."""

    scale: int | None = None
    flip: bool = False

    @property
    def settings(self) -> dict:
        """Settings of `featx.extract`."""
        return {"scale": self.scale or (), "flip": self.flip}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A recipe, and how its codes are normalised."""

    name: str
    layers: tuple[str, ...]
    passes: tuple[Pass, ...] = (Pass(),)
    join: str = "mean"
    pool: str = "avg"
    normalise: str = "l2"


def flipped(*scales: int) -> tuple[Pass, ...]:
    return tuple(Pass(scale, flip=True) for scale in scales)


CANDIDATES = (
    *(Candidate(f"{layer[:6]}, 224", (layer,)) for layer in BLOCKS),
    Candidate("blocks 4 and 5, 224", LATE),
    Candidate("blocks 2 to 5, 224", BLOCKS),
    Candidate("blocks 2 to 5, 256", BLOCKS, (Pass(256),)),
    Candidate("block4, 384", ("block4_pool",), (Pass(384),)),
    Candidate("blocks 2 to 5, 384", BLOCKS, (Pass(384),)),
    Candidate("blocks 2 to 5, 384, roots", BLOCKS, (Pass(384),), normalise="sqrt-l2"),
    Candidate("blocks 2 to 5, 384, flip", BLOCKS, flipped(384)),
    Candidate("blocks 4 and 5, 256 and 384, flip", LATE, flipped(256, 384)),
    Candidate("blocks 2 to 5, 256 and 384, flip", BLOCKS, flipped(256, 384)),
    Candidate("blocks 2 to 5, 256 and 384 stacked, flip", BLOCKS, flipped(256, 384), "stack"),
    Candidate(
        "blocks 2 to 5, 256 and 384 stacked, flip, roots",
        BLOCKS,
        flipped(256, 384),
        "stack",
        normalise="sqrt-l2",
    ),
    Candidate("block5, 256, 384 and 512 stacked, flip", LATE[1:], flipped(256, 384, 512), "stack"),
    Candidate("blocks 2 to 5, 256, 384 and 512, flip", BLOCKS, flipped(256, 384, 512)),
    Candidate("block3 bilinear, 224", ("block3_pool",), pool="bilinear"),
    Candidate("block4 bilinear, 224", ("block4_pool",), pool="bilinear"),
    Candidate("block4 bilinear, 384", ("block4_pool",), (Pass(384),), pool="bilinear"),
)
#: The single layers with which the best recipe is compared.
SINGLE = tuple(
    candidate
    for candidate in CANDIDATES
    if len(candidate.layers) == 1 and candidate.passes == (Pass(),)
)


def extract_passes(folder: Path, stores: Path) -> None:
    """Extract the stores of every pass; existing ones are resumed."""
    from featx.extraction import prepare_extraction, run_extractions

    for one_pass in dict.fromkeys(
        itertools.chain.from_iterable(candidate.passes for candidate in CANDIDATES)
    ):
        wanted: dict[str, set[str]] = {}
        for candidate in CANDIDATES:
            if one_pass in candidate.passes:
                wanted.setdefault(candidate.pool, set()).update(candidate.layers)
        jobs = [
            prepare_extraction(
                folder,
                layer=sorted(layers),
                pool=pool,
                precision="bfloat16",
                output=store_of(stores, folder, one_pass, pool),
                **one_pass.settings,
            )
            for pool, layers in wanted.items()
        ]
        result = run_extractions(jobs)[0]
        if result.n_computed:
            print(f"{folder.name} {one_pass}: {result.images_per_second:.2f} images/s", flush=True)


def store_of(stores: Path, folder: Path, one_pass: Pass, pool: str) -> Path:
    mirrored = "-flip" if one_pass.flip else ""
    return stores / f"{folder.name}-{one_pass.scale or SQUASHED}{mirrored}-{pool}.h5"


def job_of(candidate: Candidate, folder: Path, stores: Path, temporary: Path, labels: Path | None):
    """Return the job that fits the joined codes of a recipe."""
    from featx.fitting import prepare_fit

    path = temporary / f"{folder.name}-{CANDIDATES.index(candidate)}.h5"
    if not path.exists():
        join_passes(
            [store_of(stores, folder, one_pass, candidate.pool) for one_pass in candidate.passes],
            candidate,
            path,
        )
    table = {} if labels is None else {"labels": labels}
    return prepare_fit(path, normalise=candidate.normalise, baselines=False, **table)


def join_passes(passes: Sequence[Path], candidate: Candidate, path: Path) -> None:
    """Write the store that an extraction with all scales would make."""
    from featx.store import ImageFacts, StoreWriter, create_store, open_store

    opened = [open_store(one_pass) for one_pass in passes]
    first = opened[0]
    recipe = dataclasses.replace(first.recipe, layers=candidate.layers)
    if len(passes) > 1:
        scales = tuple(one_pass.scale for one_pass in candidate.passes)
        recipe = dataclasses.replace(recipe, scales=scales, scales_join=candidate.join)
    images, thumbnails = first.images, first.thumbnails()
    columns = {name: list(getattr(images, name)) for name in ("path", "label", "split", "group")}
    create_store(path, recipe, columns, dict(first.provenance))
    done = np.flatnonzero(images.done)
    codes = {}
    for layer in candidate.layers:
        each = [store.read_rows(layer, done) for store in opened]
        joined = (
            np.concatenate(each, axis=1) if candidate.join == "stack" else np.mean(each, axis=0)
        )
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
    """Write two tables that label one half of a folder each, with near-duplicates in one half."""
    from featx.dataset.folds import make_folds
    from featx.fitting import prepare_fit

    job = prepare_fit(store_of(stores, folder, Pass(), "avg"), baselines=False)
    paths, tables = job.joined.images.path[job.rows], []
    for k, (_, own) in enumerate(make_folds(job.y, job.groups, 0, 2)):
        lines = [f"{paths[row]},{job.y[row]}" for row in own]
        tables.append(temporary / f"half-{k}.csv")
        tables[-1].write_text("\n".join(["path,label", *lines]) + "\n")
    return tables[0], tables[1]


def gflop_of(candidate: Candidate, folder: Path, stores: Path) -> float:
    """Return the GFLOP per image of a folder, with all scales and mirror images."""
    from PIL import Image

    from featx.images import scaled_size
    from featx.store import open_store

    store = open_store(store_of(stores, folder, candidate.passes[0], candidate.pool))
    with Image.open(folder / str(store.images.path[store.images.done][0])) as image:
        shape = image.size[::-1]
    cut = deepest(candidate.layers)
    return sum(
        (1 + one_pass.flip)
        * gflop(cut, scaled_size(shape, one_pass.scale) if one_pass.scale else (SQUASHED, SQUASHED))
        for one_pass in candidate.passes
    )


def seconds_of(folder: Path) -> dict[Pass, float]:
    """Return the seconds per image of each pass through the whole network."""
    passes = dict.fromkeys(
        itertools.chain.from_iterable(candidate.passes for candidate in CANDIDATES)
    )
    return {
        one_pass: measured(rate, folder, SAMPLE, "bfloat16", one_pass.settings)["seconds"]
        for one_pass in passes
    }


def images_per_second(candidate: Candidate, seconds: dict[Pass, float]) -> float:
    """Return the rate of a recipe, whose network ends at its deepest layer."""
    of_whole = gflop(deepest(candidate.layers), (SQUASHED, SQUASHED)) / gflop(
        BLOCKS[-1], (SQUASHED, SQUASHED)
    )
    return 1 / (of_whole * sum(seconds[one_pass] for one_pass in candidate.passes))


def rows_of(folder: Path, stores: Path, temporary: Path) -> Iterator[tuple[dict, object]]:
    """Cross-validate every recipe on a folder; yield its row of the table and the result."""
    from featx.fitting.cross_validation import cross_validate

    seconds = seconds_of(folder)
    for candidate in CANDIDATES:
        job = job_of(candidate, folder, stores, temporary, None)
        found = cross_validate(job)
        score = found.accuracy
        yield (
            {
                "images": folder.name,
                "recipe": candidate.name,
                "n": len(found.y),
                "accuracy": round(score.value, 4),
                "low": None if score.low is None else round(score.low, 4),
                "high": None if score.high is None else round(score.high, 4),
                "width": job.joined.recipe.n_features,
                "gflop": round(gflop_of(candidate, folder, stores), 1),
                "images_per_second": round(images_per_second(candidate, seconds), 2),
            },
            found,
        )


def best_of(folders: Sequence[Path], stores: Path, temporary: Path, results: dict) -> list[str]:
    """Choose on one half of the first folder and on the others; score on the other half."""
    from featx.fitting.cross_validation import compare, cross_validate

    first = folders[0]
    chosen_on, scored_on = halves(first, stores, temporary)

    def merit(candidate: Candidate) -> float:
        half = cross_validate(job_of(candidate, first, stores, temporary, chosen_on)).accuracy.value
        others = [results[folder.name, candidate.name].accuracy.value for folder in folders[1:]]
        return float(np.mean([half, *others]))

    merits = {candidate: merit(candidate) for candidate in CANDIDATES}
    best, single = max(CANDIDATES, key=merits.__getitem__), max(SINGLE, key=merits.__getitem__)
    found = {
        candidate: cross_validate(job_of(candidate, first, stores, temporary, scored_on))
        for candidate in (best, single)
    }
    gain = compare(found[best], found[single])
    return [
        f"best, chosen on half of {first.name}"
        f"{''.join(f' and {folder.name}' for folder in folders[1:])}: {best.name} "
        f"(mean {merits[best]:.3f})",
        f"best single layer at {SQUASHED}, chosen on the same images: {single.name} "
        f"(mean {merits[single]:.3f})",
        f"on the other half of {first.name}, {len(found[best].y)} images: {found[best].accuracy} "
        f"and {found[single].accuracy}",
        f"difference {gain.value:+.3f}, 95 % interval {gain.ends('+.3f')}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--stores", type=Path, default=Path("parts"))
    parser.add_argument("-o", "--output", type=Path, default=Path("recipes.csv"))
    args = parser.parse_args()
    args.stores.mkdir(exist_ok=True)
    for folder in args.folders:
        extract_passes(folder, args.stores)
    results = {}
    with tempfile.TemporaryDirectory(dir=args.stores) as temporary, args.output.open("w") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        print("| images | recipe | accuracy | width | GFLOP | images/s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for folder in args.folders:
            for row, found in rows_of(folder, args.stores, Path(temporary)):
                table.writerow(row)
                results[folder.name, row["recipe"]] = found
                print(
                    f"| {row['images']} | {row['recipe']} | {found.accuracy} | {row['width']:,} | "
                    f"{row['gflop']} | {row['images_per_second']} |",
                    flush=True,
                )
        for line in best_of(args.folders, args.stores, Path(temporary), results):
            print(line, flush=True)


if __name__ == "__main__":
    main()
