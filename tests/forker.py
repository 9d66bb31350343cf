"""A process that forks a run for each line on its stdin, so that a test can kill many of them.

Importing takes longer than a run; it is done once, here. A line is JSON:
"settings" for the job, "real" for VGG19 instead of a stand-in, "killed_at" for a
place in featx where the run kills itself. It answers with the run's process
number, and when that has ended, with its status.

    python forker.py FOLDER [tensorflow]
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from running import MeanColour, job_in

from featx.extraction import run_extraction
from featx.store import StoreWriter, layout

SECONDS_A_BATCH = 0.02


class Slow(MeanColour):
    """Takes its time, and leaves a line in a log for each batch that it has finished."""

    def __init__(self, recipe, log):
        super().__init__(recipe)
        self.log = log

    def __call__(self, images):
        time.sleep(SECONDS_A_BATCH)
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
        StoreWriter._mark = kill
    elif place == "finishing":
        StoreWriter.finish = kill
    elif place == "before the part gets its name":
        rename = Path.replace
        Path.replace = lambda path, target: (
            kill() if path.suffix == ".part" else rename(path, target)
        )


def run(folder, request):
    kill_at(request.get("killed_at"))
    job = job_in(folder, **request["settings"])
    log = folder / "log.txt"
    run_extraction(job, load=None if request.get("real") else lambda recipe: Slow(recipe, log))


def main():
    folder = Path(sys.argv[1])
    if "tensorflow" in sys.argv:
        import keras  # noqa: F401
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(folder, json.loads(line))
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main()
