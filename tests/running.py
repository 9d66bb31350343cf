"""Extractions without a network, and a process that runs and kills them, for several test files."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from featx.extraction import prepare_extraction, run_extraction

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


class MeanColour:
    """A backbone without a network: each code is the mean colour of the image, repeated."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.shapes = []

    def __call__(self, images):
        self.shapes.append(images.shape)
        mean = images.astype("f4").mean(axis=(1, 2))
        widths = {layer: self.recipe.code_size(layer) for layer in self.recipe.layers}
        return {
            layer: np.tile(mean, (1, width // 3 + 1))[:, :width].astype(self.recipe.dtype)
            for layer, width in widths.items()
        }


class Forker:
    """The process of forker.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self._line() == "ready"

    def start(self, folder, settings, **request):
        """Start a run and return its process number."""
        request |= {"folder": str(folder), "settings": settings}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def status(self):
        """Wait for the end of the run and return its exit status."""
        return int(self._line())

    def run(self, folder, settings, *, killed_after=None, **request):
        """Run a job, kill it after so many batches and seconds, and return its exit status."""
        if killed_after is None:
            self.start(folder, settings, **request)
            return self.status()
        n_batches, seconds = killed_after
        n_batches += n_logged(folder)
        child = self.start(folder, settings, **request)
        with contextlib.suppress(ProcessLookupError):
            while n_logged(folder) < n_batches:
                os.kill(child, 0)
                time.sleep(0.001)
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        return self.status()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)

    def _line(self):
        return self.process.stdout.readline().strip()


def n_logged(folder):
    """Return the number of batches that runs have computed in a folder."""
    log = folder / "log.txt"
    return len(log.read_text().split()) if log.exists() else 0


def job_in(folder, **settings):
    """Prepare the extraction of folder/data into folder/codes.h5."""
    return prepare_extraction(
        **{"images": folder / "data", "output": folder / "codes.h5", **TINY, **settings}
    )


def run(job, backbone=None, progress=None):
    """Run a job with a backbone, or with MeanColour."""
    job = dataclasses.replace(job, progress=progress or job.progress)
    return run_extraction(job, load=lambda recipe: backbone or MeanColour(recipe))


def stop_after(n_images):
    """Return a progress that interrupts the run when so many images are in the store."""

    def progress(done, total):
        if done >= n_images:
            raise KeyboardInterrupt

    return progress
