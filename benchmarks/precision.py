"""Measure how bfloat16 and float16 change codes and the accuracy of classifiers.

    python benchmarks/precision.py ../shared/data/rsscn7_350

Codes are compared with those in float32 by the norm of their difference, relative to the norm of
the code, and by the cosine between both. The accuracies are those of `featx fit` with the same
folds.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import featx

SETTINGS = [("block2_pool", "none"), ("block4_pool", "avg")]
KINDS = [("float32", "float32"), ("float32", "float16"), ("bfloat16", "float16")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="A folder of class folders.")
    images = parser.parse_args().images
    print(
        "| layer | precision, store | mean and maximum error | minimum cosine | logistic | ridge |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for layer, pool in SETTINGS:
            exact = np.empty(0)
            for precision, dtype in KINDS:
                store = Path(folder) / f"{layer}-{precision}-{dtype}.h5"
                featx.extract(
                    images, layer=layer, pool=pool, precision=precision, dtype=dtype, output=store
                )
                codes = featx.open_store(store).flat_codes(layer)
                exact = codes if exact.size == 0 else exact
                errors, cosines = [], []
                for one, other in zip(exact, codes, strict=True):
                    a, b = one.astype("f8"), other.astype("f8")
                    errors.append(np.linalg.norm(a - b) / np.linalg.norm(a))
                    cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
                scores = [
                    featx.fit(store, clf=clf, output=Path(folder) / "m.skops", overwrite=True)
                    for clf in ("logistic", "ridge")
                ]
                accuracies = [f"{s.evaluation.accuracy.value:.3f}" for s in scores]
                print(
                    f"| {layer}, {pool} | {precision}, {dtype} | {np.mean(errors):.5f}, "
                    f"{max(errors):.5f} | {min(cosines):.7f} | {' | '.join(accuracies)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
