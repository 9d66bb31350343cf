"""Compare methods of transfer learning, from fixed codes to training from random weights.

    python benchmarks/cifar10.py cifar_200 --train 200 --test 1000
    python benchmarks/cifar10.py cifar_2000 --train 2000 --test 1000
    python benchmarks/four_cases.py data cifar_200 cifar_2000

The arguments are folders of images with train/ and val/. The table is printed and written as CSV.
All methods use the same training images, the same early-stopping set, and val as the test set. The
interval of a gain over the linear probe is one of a paired difference. There is one seed.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from measuring import measured

EARLY, LATE = "block3_pool", "block5_pool"
# Settings of each method; every fine-tuning also fits the linear probe.
METHODS = {
    "fine-tuned, last block": {"cache": 0, "augment": "none"},
    "fine-tuned, all blocks": {"freeze_until": "none"},
    "from random weights": {"init": "random"},
}
FIELDS = ("images", "train", "test", "method", "accuracy", "low", "high", "gain", "gain_low")
FIELDS += ("gain_high", "best_epoch", "epochs", "seconds")


def finetune(folder: Path, method: str, settings: dict, output: Path) -> dict:
    """Fine-tune with one method; return the content of run.json."""
    import featx

    started = time.perf_counter()
    facts = featx.finetune(folder, layer=LATE, output=output, **settings, **METHODS[method]).facts
    return {**facts, "seconds": time.perf_counter() - started}


def fit_early_layer(folder: Path, size: int, run: Path) -> dict:
    """Fit on codes of an earlier layer, with the split of a fine-tuning."""
    import featx

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        codes, model = Path(temporary) / "codes.h5", Path(temporary) / "early.skops"
        featx.extract(folder, layer=EARLY, pool="avg", size=size, output=codes)
        fit = featx.fit(
            codes,
            labels=run / "split.csv",
            split_column="split",
            group_column="group",
            output=model,
        )
    score = fit.evaluation.accuracy
    return {
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "seconds": time.perf_counter() - started,
    }


def rows_of(folder: Path, size: int, epochs: dict[str, int], work: Path) -> list[dict]:
    """Return a row for each method."""
    rows = []

    def add(method: str, score: dict, **others: object) -> None:
        numbers = {"accuracy": score["value"], "low": score["low"], "high": score["high"]}
        row = {"images": folder.name, "method": method, **numbers, **others}
        rows.append({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
        print(rows[-1], flush=True)

    for method in METHODS:
        output = work / f"{folder.name} {method}"
        settings = {"size": size, "epochs": epochs[method], "patience": epochs[method], "seed": 0}
        facts = measured(finetune, folder, method, settings, output)
        split, gain = facts["split"], facts["gain"]
        counts = {"train": split["train"] + split["early_stopping"], "test": split["test"]}
        if not rows:
            add("majority", facts["majority"], **counts)
            add(f"{LATE} codes, featx fit", facts["probe"], **counts)
            score = measured(fit_early_layer, folder, size, output)
            add(f"{EARLY} codes, featx fit", score, **counts, seconds=score["seconds"])
        # The probe of random weights is another one, so the gain is not comparable.
        gains = {"gain": gain["value"], "gain_low": gain["low"], "gain_high": gain["high"]}
        add(
            method,
            facts["tuned"],
            **counts,
            **({} if "random" in method else gains),
            best_epoch=facts["best_epoch"],
            epochs=len(facts["history"]) - 1,
            seconds=facts["seconds"],
        )
        if method == "fine-tuned, all blocks":
            add("tuned codes, featx fit", facts["fit_on_tuned"], **counts)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5, help="Epochs of a fine-tuning.")
    parser.add_argument("--random-epochs", type=int, default=15, help="Epochs from random weights.")
    parser.add_argument("-o", "--output", type=Path, default=Path("four_cases.csv"))
    args = parser.parse_args()
    epochs = dict.fromkeys(METHODS, args.epochs) | {"from random weights": args.random_epochs}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for folder in args.folders:
            rows += rows_of(folder.resolve(), args.size, epochs, Path(work))
            with args.output.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    print("| images | method | accuracy | 95 % | gain over the probe, paired 95 % |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        gained = (
            f"{float(row['gain']):+.3f} ({row['gain_low']} to {row['gain_high']})"
            if "gain" in row
            else ""
        )
        print(
            f"| {row['images']}, {row['train']} | {row['method']} | {float(row['accuracy']):.3f} "
            f"| {float(row['low']):.3f} to {float(row['high']):.3f} | {gained} |"
        )


if __name__ == "__main__":
    main()
