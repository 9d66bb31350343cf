"""A process that forks an extraction for each line on its stdin, so that tests can kill many runs.

Importing featx and TensorFlow takes longer than a run, and is done once. A line is JSON: "folder",
"settings" of the job, "real" for VGG19 instead of a simple backbone, and "killed_at" for a place in
featx at which the run kills itself. The answers are the process number of the run and, after it
has ended, its exit status.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras  # noqa: F401
from running import MeanColour, job_in

from featx.extraction import run_extraction
from featx.store import StoreWriter, layout

SECONDS_PER_BATCH = 0.02


class Slow(MeanColour):
    """A slow backbone that writes a line to a log after each batch."""

    def __init__(self, recipe, log):
        super().__init__(recipe)
        self.log = log

    def __call__(self, images):
        time.sleep(SECONDS_PER_BATCH)
        codes = super().__call__(images)
        with self.log.open("a") as file:
            file.write(f"{len(images)}\n")
        return codes


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place):
    """Make the run kill itself at a place."""
    if place == "creation":
        layout._reserve_space = kill
    elif place == "between codes and facts":
        StoreWriter._write_facts = kill
    elif place == "before rows are marked":
        StoreWriter.mark = kill
    elif place == "finishing":
        StoreWriter.finish = kill
    elif place == "before the part is renamed":
        rename = Path.replace
        Path.replace = lambda path, target: (
            kill() if path.suffix == ".part" else rename(path, target)
        )


def run(folder, settings, killed_at=None, *, real=False):
    kill_at(killed_at)
    log = folder / "log.txt"
    run_extraction(
        job_in(folder, **settings), load=None if real else lambda recipe: Slow(recipe, log)
    )


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                request = json.loads(line)
                run(Path(request.pop("folder")), **request)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
