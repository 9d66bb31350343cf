"""Compare the solvers of featx with scikit-learn on the codes.

    python benchmarks/fit.py decisions codes.h5     # difference of the decision scores
    python benchmarks/fit.py search codes.h5        # 5 folds x 7 C, and one fit
    python benchmarks/fit.py large FOLDER           # 4,591 x 524,288, with the command line
    python benchmarks/fit.py solvers FOLDER         # Gram matrix and streamed solver

codes.h5 holds flattened codes of one layer, for example of

    featx extract ../shared/data/rsscn7_350 --layer block2_pool

Each case runs in its own process.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from measuring import measured

PENALTIES = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]


def code_rows(store: str, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Return the normalised codes in memory, and the labels."""
    from sklearn.preprocessing import normalize

    from featx.store import open_store

    opened = open_store(store)
    X = np.array(opened.flat_codes(opened.recipe.layers[0]), dtype=dtype)
    return normalize(X, copy=False), opened.images.label.astype(str)


def gram_rows(store: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates from the Gram matrix, and the labels."""
    from featx.codes.gram import GramCoordinates
    from featx.codes.matrix import CodeMatrix
    from featx.store import open_store

    opened = open_store(store)
    codes = CodeMatrix([opened.flat_codes(opened.recipe.layers[0])], np.arange(len(opened.images)))
    return GramCoordinates().fit_transform(codes), opened.images.label.astype(str)


def estimators() -> dict:
    """Return one estimator of each kind, with fixed parameters."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import SVC

    return {
        "logistic, C = 100, tol 1e-8": LogisticRegression(C=100, tol=1e-8, max_iter=10_000),
        "ridge, alpha = 0.1": RidgeClassifier(alpha=0.1),
        "svm-rbf, C = 10, gamma = 1": SVC(C=10, gamma=1.0, tol=1e-8),
    }


def decide(store: str, name: str, data: str) -> dict:
    """Fit on four fifths of the rows; return the decision scores of all rows."""
    X, y = code_rows(store) if data == "codes" else gram_rows(store)
    train = np.random.default_rng(0).permutation(len(y))[: len(y) * 4 // 5]
    model = estimators()[name].fit(X[train], y[train])
    return {"scores": model.decision_function(X)}


def decisions(store: str) -> None:
    print("| classifier | largest difference of decision scores | largest score |")
    print("| --- | --- | --- |")
    for name in estimators():
        codes, gram = (measured(decide, store, name, x)["scores"] for x in ("codes", "gram"))
        gap = np.abs(codes - gram).max()
        print(f"| {name} | {gap:.1e} | {np.abs(codes).max():.2f} |", flush=True)


def grid(store: str, data: str, n_folds: int) -> dict:
    """Search 7 penalties on some folds and refit; without folds, fit once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    started = time.perf_counter()
    # Codes are in float32, which fits into memory and is fastest.
    X, y = code_rows(store, "float32") if data == "codes" else gram_rows(store)
    model = LogisticRegression(max_iter=10_000)
    if n_folds:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        model = GridSearchCV(model, {"C": PENALTIES}, cv=folds)
    else:
        model.set_params(C=100)
    model.fit(X, y)
    return {"seconds": time.perf_counter() - started}


def search(store: str) -> None:
    print("| fit | data | seconds | peak memory, MB |\n| --- | --- | --- | --- |")
    for what, n_folds in (("one fit, C = 100", 0), ("5 folds x 7 C", 5)):
        found = {data: measured(grid, store, data, n_folds) for data in ("gram", "codes")}
        for data, each in found.items():
            title = {"gram": "Gram matrix", "codes": "codes, float32"}[data]
            print(f"| {what} | {title} | {each['seconds']:.1f} | {each['peak_mb']} |", flush=True)
        speedup = found["codes"]["seconds"] / found["gram"]["seconds"]
        memory = found["gram"]["peak_mb"] / found["codes"]["peak_mb"]
        print(f"| {what} | ratio | {speedup:.1f} times | {memory:.2f} |", flush=True)


def write_large(
    path: Path, n_train: int, n_val: int, layer: str, *, size: int, distance: float
) -> None:
    """Write a synthetic store of 16 classes, whose means have a norm of `distance`, in blocks."""
    from featx.recipe import Recipe
    from featx.store import ImageFacts, StoreWriter, create_store

    n = n_train + n_val
    recipe = Recipe(weights="random:0", layers=(layer,), size=(size, size), dtype="float16")
    d = recipe.code_size(layer)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 16, n)
    columns = {
        "path": [f"{i}.png" for i in range(n)],
        "label": [f"class {k:02d}" for k in labels],
        "split": ["train"] * n_train + ["val"] * n_val,
        "group": [None] * n,
    }
    create_store(path, recipe, columns, {"weights": "random:0"})
    means = distance / np.sqrt(d) * rng.standard_normal((16, d), dtype=np.float32)
    with StoreWriter(path) as writer:
        for start in range(0, n, 32):
            rows = np.arange(start, min(start + 32, n))
            codes = rng.standard_normal((len(rows), d), dtype=np.float32) + 0.3
            codes = np.maximum(codes + means[labels[rows]], 0).astype(np.float16)
            noise = rng.integers(0, 256, (len(rows), 32, 32, 3), dtype=np.uint8)
            facts = [
                ImageFacts(f"{row:064x}", phash=int(rng.integers(2**63)), thumbnail=noise[k])
                for k, row in enumerate(rows)
            ]
            writer.write_done(rows, {layer: codes.reshape(-1, *recipe.code_shape(layer))}, facts)
        writer.finish()


def command_line(store: str, output: str, solver: str) -> dict:
    """Run `featx fit` on the command line and sample its memory."""
    featx = str(Path(sys.executable).parent / "featx")
    verb = [featx, "fit", store, "--clf", "logistic", "-o", output]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*verb, "--overwrite", "--json", "--solver", solver], stdout=subprocess.PIPE
    )
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        found = [line for line in status.splitlines() if line.startswith("RssAnon:")]
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in found)])
        time.sleep(0.1)
    facts = json.loads(process.communicate()[0])
    return {"seconds": time.perf_counter() - started, "peak": peak, "facts": facts}


def large(folder: str) -> None:
    store = Path(folder) / "large.h5"
    if not store.exists():
        write_large(store, 4125, 466, "block2_pool", size=256, distance=12.0)
    found = command_line(str(store), str(Path(folder) / "large.skops"), "auto")
    facts = found["facts"]
    print(
        f"4,125 + 466 x 524,288 float16, solver {facts['solver']}: {found['seconds']:.0f} s, "
        f"{found['peak'] / 1e9:.2f} GB of anonymous memory, {facts['gflops']} GFLOP/s, "
        f"accuracy {facts['accuracy']['value']:.3f} on val, "
        f"pixels {facts['baselines']['pixels']['value']:.3f}, {facts['parameters']}"
    )


def solvers(folder: str) -> None:
    from featx.fitting.solvers import estimate_cost

    print("| images | features | solver | seconds | estimate | GB | estimate | accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n in (500, 1000, 2000, 4000):
        store = Path(folder) / f"solvers-{n}.h5"
        if not store.exists():
            write_large(store, n, n // 4, "block5_pool", size=224, distance=6.0)
        for solver in ("gram", "streamed"):
            found = command_line(str(store), str(Path(folder) / "solvers.skops"), solver)
            estimate = estimate_cost(solver, n + n // 4, 25_088, 16)
            print(
                f"| {n} + {n // 4} | 25,088 | {solver} | {found['seconds']:.0f} | "
                f"{estimate.seconds:.0f} | {found['peak'] / 1e9:.2f} | "
                f"{estimate.n_bytes / 1e9:.2f} | "
                f"{found['facts']['accuracy']['value']:.3f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("decisions", "search", "large", "solvers"))
    parser.add_argument("where", nargs="?", default=".", help="Store, or folder for stores.")
    args = parser.parse_args()
    {"decisions": decisions, "search": search, "large": large, "solvers": solvers}[args.what](
        args.where
    )


if __name__ == "__main__":
    main()
