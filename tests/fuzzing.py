"""A process that opens malicious files, so that its death does not end the tests.

Requests and answers are lines of JSON. A file that takes too long ends the process. Answers
hold the memory that each file needed.
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

#: Time limit for each file in seconds; a valid file takes a tenth of it on a busy machine.
LONGEST = 60
#: Memory limit for each small file in bytes, with the libraries that are imported.
MOST_BYTES = 400_000_000


class Worker:
    """Starts the process and sends it requests."""

    def __init__(self) -> None:
        self._process = None

    def __call__(self, action: str, *arguments: object) -> dict:
        """Run one of the functions below, and return {"error": class or None, ...}."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        request = json.dumps([action, *map(str, arguments)]) + "\n"
        self._process.stdin.write(request.encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 10 * LONGEST)
        answer = self._process.stdout.readline() if ready else b""
        if not answer:
            self._stderr.seek(0)
            text = self._stderr.read().decode(errors="replace")[-2000:]
            self.stop()
            code = self._process.returncode
            raise AssertionError(f"{request.strip()} ended the process ({code}): {text}")
        return json.loads(answer)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._stderr.close()
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  of the process
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self("nothing")


# Functions that run in the process.


def nothing() -> dict:
    import pandas as pd  # noqa: F401  imported in the process only
    import skops.io  # noqa: F401

    import featx.cli.app
    import featx.fitting
    import featx.workflows.heads  # noqa: F401

    return {}


def store(path: str) -> dict:
    """Read a store in every way."""
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
    """Inspect a weights file, and read it."""
    from featx.network import find_weights, read_weights
    from featx.network.weights.matching import inspect_weights

    inspect_weights(path)
    layers = ["block1_conv1"]
    arrays = read_weights(find_weights(path, layers), layers)
    return {"sum": float(sum(kernel.sum() for kernel, _ in arrays.values()))}


def tuned(path: str) -> dict:
    """Open a fine-tuned network as a classifier."""
    import numpy as np

    from featx.workflows.heads import tuned_model

    opened = tuned_model(path)
    opened.predict_proba(np.ones((2, opened.recipe.n_features), np.float32))
    return {"classes": opened.classes}


def model(path: str) -> dict:
    """Load a model and classify with it."""
    import numpy as np

    import featx

    opened = featx.load_model(path)
    found = opened.predict_proba(np.ones((2, opened.recipe.n_features), np.float32))
    return {"classes": opened.classes, "shape": found.shape}


def info(path: str) -> dict:
    """Run featx info; other errors than SystemExit are failures."""
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
    """Extract the images of a table without a network."""
    from running import job_in, run

    job = job_in(Path(output).parent, images=None, manifest=table, output=output)
    run(job)
    return {"n": job.n_images}


def first(table: str, output: str) -> dict:
    """Extract for the first time, which imports large libraries; there is more time for it."""
    return manifest(table, output)


def folder(path: str) -> dict:
    """List a folder of images with its tables."""
    from featx.images import list_images

    return {"n": len(list_images(path).records)}


def labels(path: str, table: str) -> dict:
    """Read labels for a store from a table."""
    import featx
    from featx.dataset.labels import LabelSettings, relabel

    relabel(featx.open_store(path).images, LabelSettings(labels=table))
    return {}


def image(path: str) -> dict:
    """Decode an image in several ways; a reason is as good as an image."""
    from featx.errors import ImageError
    from featx.images import read_image

    found = []
    for size, resize, scales in (((32, 32), "squash", ()), ((48, 32), "crop", (32, 64))):
        try:
            decoded = read_image(Path(path), size, resize, scales=scales)
        except ImageError as error:
            found.append(str(error).strip() or "no reason")
        else:
            assert decoded.views[0].shape[2] == 3
            assert len(decoded.sha256) == 64
            found.append("")
    return {"reasons": found}


def page(source: str, output: str) -> dict:
    """Write a page about the results of a verb."""
    from featx.report import write_report

    write_report(source, output=output)
    return {"bytes": Path(output).stat().st_size}


def _answer(action: str, arguments: list[str]) -> dict:
    from featx.errors import FeatxError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(10 * LONGEST if action in {"nothing", "first"} else LONGEST)
    try:
        found = {"error": None, **globals()[action](*arguments)}
    except FeatxError as error:
        found = {"error": type(error).__name__, "message": str(error)}
    except BaseException as error:
        import traceback

        lines = "".join(traceback.format_exception(error))
        found = {"error": "bare", "message": lines[-3000:]}
    signal.alarm(0)
    found["grown"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return found


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be read as answers
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        answers.write(json.dumps(_answer(action, arguments)) + "\n")
        answers.flush()
