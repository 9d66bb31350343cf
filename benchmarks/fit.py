"""What the exact span gives and costs beside scikit-learn on the codes themselves.

    python benchmarks/fit.py decisions codes.h5     # the same answers?
    python benchmarks/fit.py search codes.h5        # 5 folds x 7 C, and one fit
    python benchmarks/fit.py large FOLDER           # 4,591 x 524,288, by the command line
    python benchmarks/fit.py roads                  # the span beside the streamed road

codes.h5 holds flattened codes of one layer, as of

    featx extract ../shared/data/rsscn7_350 --layer block2_pool

One run, one machine, each case in a process of its own.
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


def raw_rows(store: str, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows of the codes, all in memory, as one does without featx; and labels."""
    from sklearn.preprocessing import normalize

    from featx.store import open_store

    opened = open_store(store)
    X = np.array(opened.flat_codes(opened.recipe.layers[0]), dtype=dtype)
    return normalize(X, copy=False), opened.images.label.astype(str)


def span_rows(store: str) -> tuple[np.ndarray, np.ndarray, object]:
    """Return coordinates on the exact span, labels, and the span."""
    from featx.codes import GramCoordinates
    from featx.codes.matrix import CodeMatrix
    from featx.store import open_store

    opened = open_store(store)
    codes = CodeMatrix([opened.flat_codes(opened.recipe.layers[0])], np.arange(len(opened.images)))
    span = GramCoordinates()
    return span.fit_transform(codes), opened.images.label.astype(str), span


def estimators() -> dict:
    """One of each, with every number given."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import SVC

    return {
        "logistic, C = 100, tol 1e-8": LogisticRegression(C=100, tol=1e-8, max_iter=10_000),
        "ridge, alpha = 0.1": RidgeClassifier(alpha=0.1),
        "svm-rbf, C = 10, gamma = 1": SVC(C=10, gamma=1.0, tol=1e-8),
    }


def decide(store: str, name: str, on: str) -> dict:
    """Fit on four fifths of the rows, decide on all."""
    if on == "raw":
        X, y = raw_rows(store)
    else:
        X, y, _ = span_rows(store)
    train = np.random.default_rng(0).permutation(len(y))[: len(y) * 4 // 5]
    model = estimators()[name].fit(X[train], y[train])
    return {"decisions": model.decision_function(X)}


def decisions(store: str) -> None:
    print("| what | largest difference of decisions | largest decision |\n| --- | --- | --- |")
    for name in estimators():
        raw, span = (measured(decide, store, name, on)["decisions"] for on in ("raw", "span"))
        print(f"| {name} | {np.abs(raw - span).max():.1e} | {np.abs(raw).max():.2f} |", flush=True)


def grid(store: str, on: str, n_folds: int) -> dict:
    """Search 7 penalties on some folds, and refit; or, without folds, fit once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    began = time.perf_counter()
    # float32 on the codes, which is what fits in memory and what is fastest there
    X, y = raw_rows(store, "float32") if on == "raw" else span_rows(store)[:2]
    model = LogisticRegression(max_iter=10_000)
    if n_folds:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        model = GridSearchCV(model, {"C": PENALTIES}, cv=folds)
    else:
        model.set_params(C=100)
    model.fit(X, y)
    return {"seconds": time.perf_counter() - began}


def search(store: str) -> None:
    print("| what | on | seconds | peak memory, MB |\n| --- | --- | --- | --- |")
    for what, n_folds in (("one fit, C = 100", 0), ("5 folds x 7 C", 5)):
        found = {on: measured(grid, store, on, n_folds) for on in ("span", "raw")}
        for on, each in found.items():
            print(f"| {what} | {on} | {each['seconds']:.1f} | {each['peak_mb']} |", flush=True)
        faster = found["raw"]["seconds"] / found["span"]["seconds"]
        share = found["span"]["peak_mb"] / found["raw"]["peak_mb"]
        print(f"| {what} | ratio | {faster:.1f} times | {share:.2f} |", flush=True)


def write_large(
    path: Path, n_train: int, n_val: int, layer: str, *, size: int, distance: float
) -> None:
    """Write a store of codes of 16 classes, whose means have a length, block after block."""
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
    """Run `featx fit` as a user does; its memory is sampled from beside it."""
    featx = str(Path(sys.executable).parent / "featx")
    verb = [featx, "fit", store, "--clf", "logistic", "-o", output]
    began = time.perf_counter()
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
    return {"seconds": time.perf_counter() - began, "peak": peak, "facts": facts}


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


def roads(folder: str) -> None:
    from featx.fitting.solvers import estimate_cost

    print("| images | numbers | road | seconds | said | GB | said | accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n in (500, 1000, 2000, 4000):
        store = Path(folder) / f"roads-{n}.h5"
        if not store.exists():
            write_large(store, n, n // 4, "block5_pool", size=224, distance=6.0)
        for solver in ("gram", "streamed"):
            found = command_line(str(store), str(Path(folder) / "roads.skops"), solver)
            said = estimate_cost(solver, n + n // 4, 25_088, 16)
            print(
                f"| {n} + {n // 4} | 25,088 | {solver} | {found['seconds']:.0f} | "
                f"{said.seconds:.0f} | {found['peak'] / 1e9:.2f} | {said.n_bytes / 1e9:.2f} | "
                f"{found['facts']['accuracy']['value']:.3f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("decisions", "search", "large", "roads"))
    parser.add_argument("where", nargs="?", default=".", help="the store, or a folder to work in")
    given = parser.parse_args()
    {"decisions": decisions, "search": search, "large": large, "roads": roads}[given.what](
        given.where
    )


if __name__ == "__main__":
    main()
