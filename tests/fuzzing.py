"""A process of its own that opens hostile files, so that its death is a failure and not the end.

Python's words go in, a line of JSON each; what came of it comes back the same way. The
process dies of a file that takes too long, and says how much memory each file took.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

#: Seconds that a file may take; on a busy machine a good one takes a tenth.
LONGEST = 60
#: Bytes that the process may grow by for one small file, the libraries it imports included.
MOST_BYTES = 400_000_000


class Worker:
    """The process, seen from the tests."""

    def __init__(self) -> None:
        self._process = None

    def __call__(self, action: str, *arguments: object) -> dict:
        """Run one of the actions below, and return {"error": class or None, ...}."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        request = json.dumps([action, *map(str, arguments)]) + "\n"
        self._process.stdin.write(request.encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 10 * LONGEST)
        answer = self._process.stdout.readline() if ready else b""
        if not answer:
            self._words.seek(0)
            words = self._words.read().decode(errors="replace")[-2000:]
            self.stop()
            code = self._process.returncode
            raise AssertionError(f"{request.strip()} ended the process ({code}): {words}")
        return json.loads(answer)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._words.close()
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  of the process
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self("nothing")


# inside the process


def nothing() -> dict:
    import pandas as pd  # noqa: F401  lazy: in the process alone
    import skops.io  # noqa: F401

    import featx.cli.app
    import featx.fitting
    import featx.workflows.heads  # noqa: F401

    return {}


def store(path: str) -> dict:
    """Read all of a store in each way."""
    import featx

    opened = featx.open_store(path)
    frame = featx.read_frame(path, status="all")
    assert len(frame) == len(opened.images)
    opened.thumbnails()
    opened.digests()
    codes, labels = featx.read_arrays(path)
    assert len(codes) == len(labels)
    assert set(labels) <= set(opened.classes)
    return {"shape": frame.shape, "labels": labels.tolist(), "first": float(codes[0, 0])}


def weights(path: str) -> dict:
    """Say what a weights file holds, and read it."""
    from featx.network import find_weights, inspect_weights, read_weights

    inspect_weights(path)
    layers = ["block1_conv1"]
    arrays = read_weights(find_weights(path, layers), layers)
    return {"sum": float(sum(kernel.sum() for kernel, _ in arrays.values()))}


def tuned(path: str) -> dict:
    """Open a tuned network as a classifier."""
    import numpy as np

    from featx.workflows.heads import tuned_model

    opened = tuned_model(path)
    opened.predict_proba(np.ones((2, opened.recipe.n_features), np.float32))
    return {"classes": opened.classes}


def bundle(path: str) -> dict:
    """Load a bundle and classify with it."""
    import numpy as np

    import featx

    opened = featx.load_model(path)
    found = opened.predict_proba(np.ones((2, opened.recipe.n_features), np.float32))
    return {"classes": opened.classes, "shape": found.shape}


def info(path: str) -> dict:
    """Run featx info; a traceback is an error of another class than SystemExit."""
    import contextlib
    import io

    from featx.cli import main

    sys.argv = ["featx", "info", path]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as e:
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
    assert code in {0, 1}
    return {"said": e.getvalue()}


def manifest(table: str, output: str) -> dict:
    """Extract the images of a table with a network that is none."""
    from running import job_in, run

    job = job_in(Path(output).parent, images=None, manifest=table, output=output)
    run(job)
    return {"n": job.n_images}


def folder(path: str) -> dict:
    """List a folder of images with the tables inside it."""
    from featx.images import list_images

    return {"n": len(list_images(path).records)}


def labels(path: str, table: str) -> dict:
    """Take the labels of a store's images from a table."""
    import featx
    from featx.dataset.labels import relabel

    relabel(featx.open_store(path).images, table)
    return {}


def _answer(action: str, arguments: list[str]) -> dict:
    from featx.errors import FeatxError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(LONGEST if action != "nothing" else 10 * LONGEST)
    try:
        found = {"error": None, **globals()[action](*arguments)}
    except FeatxError as error:
        found = {"error": type(error).__name__, "words": str(error)}
    except BaseException as error:
        import traceback

        lines = "".join(traceback.format_exception(error))
        found = {"error": "bare", "words": lines[-3000:]}
    signal.alarm(0)
    found["grown"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return found


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        answers.write(json.dumps(_answer(action, arguments)) + "\n")
        answers.flush()
