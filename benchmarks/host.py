"""Measure how fast the host can feed a network that takes no time, without a GPU.

    python benchmarks/host.py

Section "feeding": decoding and resizing an image are emulated by sleeping for 2 ms.

* Threads: files are read, hashed and handed over as usual. These parts need the global interpreter
  lock, which all threads share.
* Processes: other processes do those parts. They need cores that this machine may not have, so the
  parts count as included in the 2 ms. The pixels are copied to this process as usual.
* Cost: the processor time per image in this process, without decoding and resizing.

Section "writer": see `benchmarks/writer.py`.
"""

import argparse
import tempfile
import time
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from emulated_images import noise, read_asleep, sleep_only
from writer import writer

from featx.extraction import pipeline
from featx.extraction.pipeline import stream_codes
from featx.recipe import Recipe

DECODING = 0.002  # seconds per image
DECODERS = (1, 2, 4, 8, 16)
BATCH = 512  # that of a GPU
SECONDS = 2.0  # of each measurement
WARM_UP = 2.0  # seconds, in which processes start

RECIPE = Recipe(weights="random:0", layers=("block5_pool",), pool="avg", size=(224, 224))


class FreeNetwork:
    """A backbone whose codes are zeros."""

    recipe = RECIPE

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return codes of zeros."""
        return {"block5_pool": np.zeros((len(images), 512), np.float32)}


def rate(file: Path, n_decoders: int, decoders: str | int, seconds: float) -> tuple[float, float]:
    """Return the images per second of a pipeline, and the processor seconds per image here."""
    pipeline.n_decoders = lambda files: n_decoders
    read = read_asleep if decoders == "threads" else sleep_only
    pipeline.read_image = partial(read, seconds=seconds)
    files = list(repeat(file, 10**6))
    batches = stream_codes(files, FreeNetwork(), BATCH, decoders=decoders)
    began, n_images, start, used = time.perf_counter(), 0, 0.0, 0.0
    for batch in batches:
        assert not batch.failures
        now = time.perf_counter()
        if not start:
            if now - began > WARM_UP:
                start, used = now, time.process_time()
            continue
        n_images += batch.n_images
        if now - start > SECONDS:
            break
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    batches.close()
    return n_images / elapsed, used / n_images


def feeding() -> None:
    """Print the images per second of threads and of processes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.jpg"
        noise(400, 400).resize((100, 100)).resize((400, 400)).save(file, quality=85)
        print("| decoders | threads, images/s | of one | processes, images/s | of one |")
        print("| --- | --- | --- | --- | --- |")
        ones = []
        for n_decoders in DECODERS:
            rates = [rate(file, n_decoders, kind, DECODING)[0] for kind in ("threads", n_decoders)]
            ones = ones or rates
            cells = (
                f"{each:,.0f} | {each / one:.2f}" for each, one in zip(rates, ones, strict=True)
            )
            print(f"| {n_decoders} | {' | '.join(cells)} |", flush=True)
        print()
        for kind in ("threads", 1):
            _, seconds = rate(file, 1, kind, 0.0)
            name = "one thread" if kind == "threads" else "one process, in this one"
            print(f"cost of an image, {name}: {1e3 * seconds:.3f} ms", flush=True)


SECTIONS = {"feeding": feeding, "writer": writer}


def main() -> None:
    """Run the sections and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="All by default.")
    for name in parser.parse_args().sections or SECTIONS:
        print(f"**{name}**\n")
        SECTIONS[name]()
        print()


if __name__ == "__main__":
    main()
