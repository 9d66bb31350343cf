"""The ways of transfer learning beside each other, from codes that stay to a network from nothing.

    python benchmarks/cifar10.py cifar_200 --train 200 --test 1000
    python benchmarks/cifar10.py cifar_2000 --train 2000 --test 1000
    python benchmarks/four_cases.py data cifar_200 cifar_2000

Takes folders of images with train/ and val/; prints a table and writes it as CSV. Of each
folder the same images are trained on, the same stop a training, and val is what all are
scored on: a way's interval is its own, a gain's is of the paired bootstrap beside the
probe, image by image. One seed.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from measuring import measured

EARLY, LATE = "block3_pool", "block5_pool"
# Way: how a network is trained; the probe comes with each of them.
WAYS = {
    "fine-tuned, last block": {"cache": 0, "augment": "none"},
    "fine-tuned, all blocks": {"freeze_until": "none"},
    "from random weights": {"init": "random"},
}
FIELDS = ("images", "train", "untouched", "way", "accuracy", "low", "high", "gain", "gain_low")
FIELDS += ("gain_high", "best_epoch", "epochs", "seconds")


def trained(folder: Path, way: str, settings: dict, output: Path) -> dict:
    """Fine-tune in one way; return what run.json says."""
    import featx

    began = time.perf_counter()
    facts = featx.finetune(folder, layer=LATE, output=output, **settings, **WAYS[way]).facts
    return {**facts, "seconds": time.perf_counter() - began}


def early(folder: Path, size: int, run: Path) -> dict:
    """Fit on codes of an earlier layer, with the parts of a run."""
    import featx

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        codes, bundle = Path(temporary) / "codes.h5", Path(temporary) / "early.skops"
        featx.extract(folder, layer=EARLY, pool="avg", size=size, output=codes)
        fit = featx.fit(
            codes,
            labels=run / "split.csv",
            split_column="split",
            group_column="group",
            output=bundle,
        )
    score = fit.evaluation.accuracy
    return {
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "seconds": time.perf_counter() - began,
    }


def rows_of(folder: Path, size: int, epochs: dict[str, int], work: Path) -> list[dict]:
    """Return a row for each way."""
    rows = []

    def add(way: str, score: dict, **others: object) -> None:
        numbers = {"accuracy": score["value"], "low": score["low"], "high": score["high"]}
        row = {"images": folder.name, "way": way, **numbers, **others}
        rows.append({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
        print(rows[-1], flush=True)

    for way in WAYS:
        output = work / f"{folder.name} {way}"
        settings = {"size": size, "epochs": epochs[way], "patience": epochs[way], "seed": 0}
        facts = measured(trained, folder, way, settings, output)
        parts, gain = facts["parts"], facts["gain"]
        counts = {"train": parts["fitted"] + parts["stopping"], "untouched": parts["untouched"]}
        if not rows:
            add("majority", facts["majority"], **counts)
            add(f"{LATE} codes, featx fit", facts["probe"], **counts)
            score = measured(early, folder, size, output)
            add(f"{EARLY} codes, featx fit", score, **counts, seconds=score["seconds"])
        # From random weights the probe is another, and so is what is gained on it.
        gains = {"gain": gain["value"], "gain_low": gain["low"], "gain_high": gain["high"]}
        add(
            way,
            facts["tuned"],
            **counts,
            **({} if "random" in way else gains),
            best_epoch=facts["best_epoch"],
            epochs=len(facts["history"]) - 1,
            seconds=facts["seconds"],
        )
        if way == "fine-tuned, all blocks":
            add("tuned codes, featx fit", facts["fit_on_tuned"], **counts)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5, help="Of the fine-tuned.")
    parser.add_argument("--random-epochs", type=int, default=15, help="From random weights.")
    parser.add_argument("-o", "--output", type=Path, default=Path("four_cases.csv"))
    given = parser.parse_args()
    epochs = dict.fromkeys(WAYS, given.epochs) | {"from random weights": given.random_epochs}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for folder in given.folders:
            rows += rows_of(folder.resolve(), given.size, epochs, Path(work))
            with given.output.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    print("| images | way | accuracy | 95 % | on the probe, paired 95 % |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        gained = (
            f"{float(row['gain']):+.3f} ({row['gain_low']} to {row['gain_high']})"
            if "gain" in row
            else ""
        )
        print(
            f"| {row['images']}, {row['train']} | {row['way']} | {float(row['accuracy']):.3f} "
            f"| {float(row['low']):.3f} to {float(row['high']):.3f} | {gained} |"
        )


if __name__ == "__main__":
    main()
