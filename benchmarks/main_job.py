"""Compare the main steps with their bounds and with scikit-learn and NumPy.

    python benchmarks/main_job.py

Extraction is compared with the network alone; the fit with the Gram matrix with scikit-learn on
the codes, including the difference of the decision scores; and a frame with reading its bytes. The
export to Parquet is measured as well. Each case runs in its own process, where the peak of
anonymous memory is sampled.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measuring import measured

LAYER = "block2_pool"
PENALTY = 100.0  # one C, so that both fit the same model once


def network_alone(images: str) -> dict:
    """Return the images per second of the compiled network on arrays in memory."""
    import numpy as np

    from featx.extraction import prepare_extraction
    from featx.network import load_backbone

    job = prepare_extraction(images, layer=LAYER, output=Path(tempfile.gettempdir()) / "none.h5")
    backbone = load_backbone(job.recipe, job.source)
    batch = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    backbone(batch)
    started = time.perf_counter()
    for _ in range(10):
        backbone(batch)
    return {"rate": 10 * len(batch) / (time.perf_counter() - started)}


def extraction(images: str, store: str) -> dict:
    """Return the images per second of the whole extraction, including compilation."""
    import featx

    return {"rate": featx.extract(images, layer=LAYER, output=store).images_per_second}


def fit_on_gram(store: str) -> dict:
    """Fit once with the Gram matrix, from the file to the coefficients of the codes."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from featx.codes.gram import GramCoordinates
    from featx.codes.matrix import CodeMatrix
    from featx.store import open_store

    opened = open_store(store)
    train = np.flatnonzero(opened.images.split == "train")
    started = time.perf_counter()
    gram = GramCoordinates().fit(CodeMatrix([opened.flat_codes(LAYER)], train))
    y = opened.images.label[train].astype(str)
    model = LogisticRegression(C=PENALTY, max_iter=10_000, tol=1e-8).fit(gram.coordinates_, y)
    scores = model.decision_function(gram.coordinates_)
    gram.to_code_space(model.coef_)
    return {"seconds": time.perf_counter() - started, "scores": scores}


def fit_on_codes(store: str, dtype: str) -> dict:
    """Fit the same model with scikit-learn on the normalised codes."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    import featx

    X, y = featx.read_arrays(store, split="train")
    started = time.perf_counter()
    X = normalize(np.array(X, dtype))
    model = LogisticRegression(C=PENALTY, max_iter=10_000, tol=1e-8).fit(X, y)
    return {"seconds": time.perf_counter() - started, "scores": model.decision_function(X)}


def frame(store: str) -> dict:
    """Return the seconds to read the bytes and to make a frame; the best of three."""
    import numpy as np

    import featx

    n_bytes = Path(store).stat().st_size
    seconds = {"bytes": [], "frame": []}
    for _ in range(3):
        started = time.perf_counter()
        with Path(store).open("rb", buffering=0) as file:
            buffer = np.empty(n_bytes, np.uint8)
            file.readinto(buffer.data)
        seconds["bytes"].append(time.perf_counter() - started)
        del buffer
        started = time.perf_counter()
        table = featx.read_frame(store)
        seconds["frame"].append(time.perf_counter() - started)
        del table
    return {name: min(values) for name, values in seconds.items()}


def parquet(store: str, output: str) -> dict:
    """Return the seconds to export the store."""
    import featx

    started = time.perf_counter()
    featx.export(store, output)
    return {"seconds": time.perf_counter() - started}


def main() -> None:
    """Run all cases and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="data")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "codes.h5")
        alone = measured(network_alone, images)
        whole = measured(extraction, images, store)
        gram = measured(fit_on_gram, store)
        codes = {dtype: measured(fit_on_codes, store, dtype) for dtype in ("float32", "float64")}
        read = measured(frame, store)
        export = measured(parquet, store, str(Path(folder) / "codes.parquet"))
    print("| task | featx | compared with | ratio | peak memory, MB |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| extraction, {LAYER} at 224 | {whole['rate']:.1f} images/s | network alone "
        f"{alone['rate']:.1f} images/s | {whole['rate'] / alone['rate']:.2f} | "
        f"{whole['peak_mb']} |"
    )
    for dtype, plain in codes.items():
        gap = abs(gram["scores"] - plain["scores"]).max()
        print(
            f"| one logistic fit, C = {PENALTY:g}, tol 1e-8 | {gram['seconds']:.1f} s | "
            f"scikit-learn on the codes in {dtype} {plain['seconds']:.1f} s, {plain['peak_mb']} "
            f"MB; decision scores differ by at most {gap:.1e} | "
            f"{plain['seconds'] / gram['seconds']:.1f} | {gram['peak_mb']} |"
        )
    print(
        f"| read_frame | {read['frame']:.2f} s | reading the bytes {read['bytes']:.2f} s | "
        f"{read['frame'] / read['bytes']:.2f} | {read['peak_mb']} |"
    )
    print(f"| export to Parquet | {export['seconds']:.1f} s | | | {export['peak_mb']} |")


if __name__ == "__main__":
    main()
