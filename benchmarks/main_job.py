"""What the main job costs beside its bounds and beside what a user does without featx.

    python benchmarks/main_job.py

One run, one machine, every figure beside the one that it is compared with:
extraction against the network alone; the fit on the exact span against
scikit-learn on the codes themselves, with the difference of their decisions;
a frame against reading its bytes; the Parquet export. Each case runs in a
process of its own, and its peak of anonymous memory is sampled there.
"""

import argparse
import tempfile
import time
from pathlib import Path

from measuring import measured

LAYER = "block2_pool"
PENALTY = 100.0  # one C, so that both sides fit the same model once


def network_alone(images: str) -> dict:
    """Images a second of the compiled network on arrays that lie in memory."""
    import numpy as np

    from featx.extraction import prepare_extraction
    from featx.network import load_backbone

    job = prepare_extraction(images, layer=LAYER, output=Path(tempfile.gettempdir()) / "none.h5")
    backbone = load_backbone(job.recipe, job.source)
    batch = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    backbone(batch)
    began = time.perf_counter()
    for _ in range(10):
        backbone(batch)
    return {"rate": 10 * len(batch) / (time.perf_counter() - began)}


def extraction(images: str, store: str) -> dict:
    """Images a second of the whole extraction, the network's compilation included."""
    import featx

    return {"rate": featx.extract(images, layer=LAYER, output=store).images_per_second}


def fit_on_span(store: str) -> dict:
    """One logistic fit on the exact span, Gram matrix and way back included."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from featx.codes import GramCoordinates
    from featx.codes.matrix import CodeMatrix
    from featx.store import open_store

    opened = open_store(store)
    train = np.flatnonzero(opened.images.split == "train")
    began = time.perf_counter()
    span = GramCoordinates().fit(CodeMatrix([opened.flat_codes(LAYER)], train))
    y = opened.images.label[train].astype(str)
    model = LogisticRegression(C=PENALTY, max_iter=10_000, tol=1e-8).fit(span.coordinates_, y)
    decisions = model.decision_function(span.coordinates_)
    span.to_code_space(model.coef_)
    return {"seconds": time.perf_counter() - began, "decisions": decisions}


def fit_on_codes(store: str, dtype: str) -> dict:
    """Fit the same model by scikit-learn on the unit-length codes themselves."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    import featx

    X, y = featx.read_arrays(store, split="train")
    began = time.perf_counter()
    X = normalize(np.array(X, dtype))
    model = LogisticRegression(C=PENALTY, max_iter=10_000, tol=1e-8).fit(X, y)
    return {"seconds": time.perf_counter() - began, "decisions": model.decision_function(X)}


def frame(store: str) -> dict:
    """Seconds to read the bytes, and to make a frame of them; the better of three each."""
    import numpy as np

    import featx

    n_bytes = Path(store).stat().st_size
    seconds = {"bytes": [], "frame": []}
    for _ in range(3):
        began = time.perf_counter()
        with Path(store).open("rb", buffering=0) as file:
            buffer = np.empty(n_bytes, np.uint8)
            file.readinto(buffer.data)
        seconds["bytes"].append(time.perf_counter() - began)
        del buffer
        began = time.perf_counter()
        made = featx.read_frame(store)
        seconds["frame"].append(time.perf_counter() - began)
        del made
    return {name: min(values) for name, values in seconds.items()}


def parquet(store: str, output: str) -> dict:
    """Seconds to export the store."""
    import featx

    began = time.perf_counter()
    featx.export(store, output)
    return {"seconds": time.perf_counter() - began}


def main() -> None:
    """Run all cases and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="data")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "codes.h5")
        alone = measured(network_alone, images)
        whole = measured(extraction, images, store)
        span = measured(fit_on_span, store)
        codes = {dtype: measured(fit_on_codes, store, dtype) for dtype in ("float32", "float64")}
        read = measured(frame, store)
        export = measured(parquet, store, str(Path(folder) / "codes.parquet"))
    print("| what | featx | beside | ratio | peak memory, MB |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| extraction, {LAYER} at 224 | {whole['rate']:.1f} images/s | network alone "
        f"{alone['rate']:.1f} images/s | {whole['rate'] / alone['rate']:.2f} | "
        f"{whole['peak_mb']} |"
    )
    for dtype, plain in codes.items():
        apart = abs(span["decisions"] - plain["decisions"]).max()
        print(
            f"| one logistic fit, C = {PENALTY:g}, tol 1e-8 | {span['seconds']:.1f} s | "
            f"scikit-learn on the codes in {dtype} {plain['seconds']:.1f} s, {plain['peak_mb']} "
            f"MB; decisions differ by at most {apart:.1e} | "
            f"{plain['seconds'] / span['seconds']:.1f} | {span['peak_mb']} |"
        )
    print(
        f"| read_frame | {read['frame']:.2f} s | reading the bytes {read['bytes']:.2f} s | "
        f"{read['frame'] / read['bytes']:.2f} | {read['peak_mb']} |"
    )
    print(f"| export to Parquet | {export['seconds']:.1f} s | | | {export['peak_mb']} |")


if __name__ == "__main__":
    main()
