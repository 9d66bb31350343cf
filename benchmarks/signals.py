"""Send signals to every verb at random moments: `python benchmarks/signals.py 500 [SEED]`.

Each verb runs on tiny images and few layers, first without a signal, as the reference. Then runs
are stopped by SIGKILL, SIGTERM, SIGINT or SIGHUP, up to three in a row on the same output, and one
run ends by itself. After each signal, every file under its own name must be whole, and every
finished code that of the reference. After the last run, the files must be those of the reference,
and nothing else may be left. Exits with 1 if anything is wrong. Runs are forked from a process that
has imported everything, so a run takes a second.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras  # noqa: F401
import matplotlib.figure  # noqa: F401
import numpy as np
import pyarrow.parquet as pq
import skops.io  # noqa: F401
from PIL import Image

import featx
from featx.cli import main as featx_main
from featx.finetuning.checkpoints import load_checkpoint
from featx.hdf5 import open_hdf5
from featx.store import Status, open_store

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NETWORK = ["--size", "32", "--weights", "random:0", "--device", "cpu"]
CODES = ["--layer", "block1_pool", "--pool", "avg", *NETWORK, "--batch-size", "4"]
MORE = ["--layer", "block1_conv1", "--layer", "block1_pool", *CODES[2:]]
TUNING = ["--layer", "block1_pool", "--size", "32", "--init", "random", "--freeze-until"]
TUNING += ["block1_conv1", "--batch-size", "6", "--epochs", "2"]
#: Arguments by verb; {in} is the folder of the inputs. They run in the folder of their outputs.
VERBS = {
    "extract": ["extract", "{in}/data", *CODES, "-o", "codes.h5"],
    "extract, update": ["extract", "{in}/data", *MORE, "-o", "codes.h5"],
    "plan": ["plan", "{in}/data", *CODES, "-o", "codes.h5"],
    "fit": ["fit", "{in}/codes.h5", "--clf", "ridge", "-o", "model.skops", "--overwrite"],
    "predict": ["predict", "{in}/data", "-o", "predictions.csv", "--overwrite"],
    "predict, Parquet": ["predict", "{in}/codes.h5", "-o", "predictions.parquet", "--overwrite"],
    "evaluate": ["evaluate", "{in}/new"],
    "explain": ["explain", "{in}/model.skops", "{in}/data/a/0.png", "-o", "out", "--overwrite"],
    "export": ["export", "{in}/codes.h5", "-o", "codes.csv", "--overwrite"],
    "report": ["report", "{in}/model.skops", "--heat-maps", "0", "--overwrite"],
    "sweep": ["sweep", "{in}/data", *NETWORK, "--pool", "avg", "--clf", "centroid", "-o", "out"],
    "finetune": ["finetune", "{in}/data", *TUNING, "-o", "out"],
}
VERBS["sweep"] += ["--folds", "2"]
for name in ("predict", "predict, Parquet", "evaluate"):
    VERBS[name] += ["--model", "{in}/model.skops"]


@dataclass
class Reference:
    """An undisturbed run: its time, its files, and the codes of its store by path and layer."""

    seconds: float
    files: set[str]
    contents: dict[str, object]


def start(name: str, folder: Path, inputs: Path) -> int:
    """Fork a run of a verb in a folder, and return its process number."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(folder.with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        sys.argv = ["featx", *(each.replace("{in}", str(inputs)) for each in VERBS[name])]
        featx_main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status or 0)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def codes_of(path: Path) -> dict[tuple[str, str], bytes]:
    """Return the finished codes of a store by layer and path; raises if one is not whole."""
    store = open_store(path)
    rows = np.flatnonzero(store.images.status == Status.DONE)
    found = {}
    for layer in store.recipe.layers:
        matrix = store.flat_codes(layer)
        found |= {(layer, str(store.images.path[row])): matrix[row].tobytes() for row in rows}
    return found


def content_of(path: Path) -> object:
    """Read a file; it raises an error if the file is not whole. Return what must be repeatable."""
    if path.name.startswith("checkpoint"):
        load_checkpoint(path)
    elif path.name.endswith(".weights.h5"):
        with open_hdf5(path) as file:
            file.visititems(lambda _, item: item[...] if isinstance(item, h5py.Dataset) else None)
    elif path.suffix == ".h5" or path.name.endswith(".h5.part"):
        return codes_of(path)
    elif path.suffix == ".skops":
        return featx.load_model(path).classes
    elif path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            dict(arrays)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    elif path.suffix == ".csv":
        text = path.read_text()
        assert text.endswith("\n")
        return text if path.parent.name != "out" else None  # a sweep and a tuning write times
    return None


def check(folder: Path, reference: Reference, *, at_end: bool) -> list[str]:
    """Return what is wrong with the files in a folder."""
    wrong = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name.endswith((".tmp", ".lock")) or ".tmp." in path.name:
            continue
        if "featx-" in str(path.parent.name):
            continue  # of a temporary folder
        try:
            found = content_of(path)
        except Exception as error:
            wrong.append(f"{name} cannot be read: {error!r}")
            continue
        expected = reference.contents.get(name.removesuffix(".part"))
        if isinstance(found, dict) and isinstance(expected, dict):
            wrong += [
                f"{name}: other code of {key}"
                for key, value in found.items()
                if key in expected and expected[key] != value
            ]
        elif found is not None and found != expected:
            wrong.append(f"{name}: other content")
        if at_end and found is not None and found != expected:
            wrong.append(f"{name} is not that of the reference")
    if at_end and names_in(folder) != reference.files:
        wrong.append(f"files: {sorted(names_in(folder) ^ reference.files)}")
    return wrong


def begin(name: str, folder: Path, inputs: Path) -> None:
    """Make an empty folder for a verb's outputs; an update starts with a finished store."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == "extract, update":
        shutil.copyfile(inputs / "codes.h5", folder / "codes.h5")


def reference_of(name: str, folder: Path, inputs: Path) -> Reference:
    begin(name, folder, inputs)
    started = time.monotonic()
    status = ended(start(name, folder, inputs))
    seconds = time.monotonic() - started
    if status:
        sys.exit(f"{name} ends with {status}:\n{folder.with_name('log.txt').read_text()}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    contents = {str(path.relative_to(folder)): content_of(path) for path in files}
    print(f"{name}: {seconds:.1f} s, {len(files)} files", flush=True)
    return Reference(seconds, names_in(folder), contents)


def draw_images(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label, colour in (("a", (200, 50, 40)), ("b", (40, 60, 200))):
        (folder / label).mkdir(parents=True)
        for k in range(12):
            pixels = rng.integers(0, 50, (40, 48, 3)) + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{k}.png")


def interrupted(child: int, number: int, seconds: float) -> int:
    """Send a signal after some seconds, and return the exit status."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    return ended(child)


def campaign(n_signals: int, seed: int, home: Path) -> int:
    """Send signals until so many have ended a run; return the number of failures."""
    rng, inputs, work = random.Random(seed), home / "inputs", home / "work"
    draw_images(inputs / "data", 0)
    draw_images(inputs / "new", 1)
    references = {}
    for name in VERBS:
        references[name] = reference_of(name, work, inputs)
        if name in {"extract", "fit"}:
            for path in work.iterdir():
                shutil.copyfile(path, inputs / path.name)
    sent: Counter[str] = Counter()
    failures = []
    while sent.total() < n_signals:
        name = rng.choice(list(VERBS))
        reference = references[name]
        begin(name, work, inputs)
        for _ in range(rng.randint(1, 3)):
            number = rng.choice(SIGNALS)
            seconds = rng.uniform(0, 1.1 * reference.seconds)
            status = interrupted(start(name, work, inputs), number, seconds)
            sent[name] += status != 0
            where = f"{name}, {signal.Signals(number).name} after {seconds:.3f} s"
            failures += [f"{where}: {each}" for each in check(work, reference, at_end=False)]
        if status := ended(start(name, work, inputs)):
            log = (home / "log.txt").read_text()[-600:]
            failures.append(f"{name}: the next run ends with {status}: {log}")
        else:
            failures += [f"{name}: {each}" for each in check(work, reference, at_end=True)]
    for name, count in sorted(sent.items()):
        print(f"{count:5d} {name}")
    print(f"{sent.total():5d} signals ended a run; {len(failures)} failures")
    for failure in failures:
        print(failure)
    return len(failures)


def main() -> None:
    n_signals, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(campaign(n_signals, seed, Path(folder)) > 0)


if __name__ == "__main__":
    main()
