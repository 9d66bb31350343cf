"""Check and measure featx on a machine with one GPU; print one table of pass and fail.

    python benchmarks/gpu.py --backend jax

Takes less than ten minutes. A check that ends in an error is a row of the table, and so is one
that takes too long or ends its process; the other checks still run. `--tiny` runs everything on
small inputs, on a CPU if there is no GPU, to test the command itself. docs/gpu.md says what the
machine needs.
"""

import argparse
import contextlib
import hashlib
import itertools
import math
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Largest error of a code, relative to its norm, by precision.
LIMITS = {"float32": 1e-5, "tf32": 1e-2, "bfloat16": 1e-2}
# Images per second of block5_pool in bfloat16 that featx aims at, by a part of the GPU's name.
TARGETS = {"H200": 8000}
# Speed of a whole run, as a share of that of its slowest stage alone.
SHARE = 0.9


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    found: str
    expected: str = ""
    verdict: str = "measured"  # or "pass", "FAIL", "skipped"


def checked(check: str, found: str, expected: str, passes: bool) -> Row:
    return Row(check, found, expected, "pass" if passes else "FAIL")


@dataclass(frozen=True)
class Load:
    """How much work the checks do."""

    tiny: bool
    size: int  # of images in the network
    cut: str  # layer of most checks
    fast: str  # precision of the measurements
    layers: tuple[str, ...]  # whose codes are compared with float64
    n_reference: int  # images that are compared
    digest_batches: tuple[int, ...]
    batches: tuple[int, ...]  # sizes of batches of the network alone
    matrix: int  # rows of the square matrices whose product gives the matrix rate
    decoders: tuple[int, ...]
    processes: tuple[int, ...]
    large: tuple[int, int]  # size of large JPEGs
    scale: int
    seconds: float  # of one measurement
    run_seconds: float  # of a whole run


FULL = Load(
    tiny=False,
    size=224,
    cut="block5_pool",
    fast="bfloat16",
    layers=("block2_pool", "block5_pool", "fc2"),
    n_reference=2,
    digest_batches=(1, 8, 63, 64),
    batches=(32, 64, 128, 256, 512),
    matrix=8192,
    decoders=(1, 2, 4, 8, 16),
    processes=(1, 2, 4, 8),
    large=(3000, 4000),
    scale=384,
    seconds=1.0,
    run_seconds=30.0,
)
TINY = Load(
    tiny=True,
    size=32,
    cut="block2_pool",
    fast="float32",  # many CPUs emulate bfloat16
    layers=("block1_pool", "block2_pool"),
    n_reference=1,
    digest_batches=(1, 3, 4),
    batches=(2, 4),
    matrix=64,
    decoders=(1, 2),
    processes=(1,),
    large=(150, 200),
    scale=64,
    seconds=0.05,
    run_seconds=0.1,
)


# What several checks need


def spec(load: Load) -> str:
    return "auto" if load.tiny else "gpu"


def network(
    load: Load, layer: str, precision: str = "float32", pool: str = "avg", **settings: Any
) -> Any:
    """Build VGG19 up to a layer; its weights are random where the bundled file ends."""
    from featx.layers import find_layer
    from featx.network import find_weights, load_backbone
    from featx.recipe import Recipe

    source = find_weights("random:0" if find_layer(layer).kind == "dense" else "bundled", [layer])
    size = (224, 224) if find_layer(layer).kind == "dense" else (load.size, load.size)
    given = {"size": size, **settings}
    recipe = Recipe(
        weights=source.identity, layers=(layer,), pool=pool, precision=precision, **given
    )
    return load_backbone(recipe, source, spec(load))


def sample_images(n: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Draw coloured spots with some noise, which JPEG compresses about as well as photographs."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    images = np.empty((n, *size, 3), np.uint8)
    for image in images:
        spots = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(spots.resize(size[::-1], Image.Resampling.BICUBIC), np.int16)
        # A normal number for each pixel of a large image would take seconds.
        noise = rng.integers(-10, 11, (*size, 1), dtype=np.int8)
        image[:] = np.clip(smooth + noise, 0, 255)
    return images


def save_jpegs(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    from PIL import Image

    folder.mkdir(parents=True)
    files = [folder / f"{k}.jpg" for k in range(len(sizes))]
    for k, (file, size) in enumerate(zip(files, sizes, strict=True)):
        Image.fromarray(sample_images(1, size, seed=k)[0]).save(file, quality=90)
    return files


def relative_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the norm of each row's difference, relative to the norm of the expected row."""
    a, b = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (found, expected))
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def wait_for(tensor: Any) -> None:
    """Wait until a tensor is computed or copied."""
    import keras

    if keras.backend.backend() == "jax":
        tensor.block_until_ready()
    elif keras.backend.backend() == "torch":
        if tensor.is_cuda:
            import torch

            torch.cuda.synchronize()
    else:
        tensor[:1].numpy()


def seconds_of(function: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call, after one call that is not counted."""
    function()
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 3:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def rate_of(work: Callable[[int], int], n_threads: int, seconds: float) -> float:
    """Return what threads do per second together; `work` returns how much a call has done."""
    work(0)
    calls, began = itertools.count(), time.perf_counter()

    def repeat(_: int) -> int:
        done = work(next(calls))
        while time.perf_counter() - began < seconds:
            done += work(next(calls))
        return done

    with ThreadPoolExecutor(n_threads) as pool:
        done = sum(pool.map(repeat, range(n_threads)))
    return done / (time.perf_counter() - began)


def computing(network: Callable[[Any], object], images: Sequence[Any]) -> Callable[[int], int]:
    """Return a function that computes the codes of images, and returns how many there are."""

    def work(_: int) -> int:
        network(images)
        return len(images)

    return work


# The checks


def device(load: Load) -> Iterator[Row]:
    """Versions, and the device whose memory a batch fills."""
    import keras

    from featx.network import find_device

    backend = keras.backend.backend()
    names = ["featx", "keras", backend, "numpy", "pillow", "h5py"]
    names += ["jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin"] if backend == "jax" else []
    libraries = ["nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cublas", "nvidia-cublas-cu12"]
    found = []
    for name in names + libraries:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    yield Row("versions", f"Python {platform.python_version()}, " + ", ".join(found))
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total"]
        said = subprocess.run([*command, "--format=csv,noheader"], capture_output=True, check=True)
        yield Row("driver", said.stdout.decode().strip().replace("\n", "; "))
    one = find_device(spec(load))
    expected = "any device (--tiny)" if load.tiny else "a GPU"
    yield checked("device", one.description, expected, one.kind == "gpu" or load.tiny)
    if one.kind == "cpu":
        yield Row("memory of the GPU during a batch", "there is no GPU", verdict="skipped")
        return
    n = load.batches[0]
    network(load, "block1_pool")(sample_images(n, (load.size, load.size)))
    used, least = peak_gpu_bytes(one.index), n * load.size**2 * 64 * 4
    yield checked(
        "memory of the GPU during a batch",
        f"{used / 1e6:.0f} MB",
        f"at least {least / 1e6:.0f} MB, the output of block1_conv1",
        used >= least,
    )


def peak_gpu_bytes(index: int) -> int:
    """Return the most memory of a GPU that tensors of this process have used."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return int(jax.devices("gpu")[index].memory_stats()["peak_bytes_in_use"])
    if keras.backend.backend() == "torch":
        import torch

        return int(torch.cuda.max_memory_allocated(index))
    import tensorflow as tf

    return int(tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"])


def codes(load: Load) -> Iterator[Row]:
    """Codes of every precision, compared with NumPy in float64."""
    from featx.errors import OptionError

    for layer in load.layers:
        for precision, limit in LIMITS.items():
            try:
                error = code_error(load, layer, precision)
            except OptionError as refused:  # the device has no TF32
                yield Row(f"{layer}, {precision}", str(refused), verdict="skipped")
                continue
            expected = f"at most {limit:.0e} from float64"
            yield checked(f"{layer}, {precision}", f"{error:.1e}", expected, error <= limit)


def code_error(load: Load, layer: str, precision: str) -> float:
    """Return the largest error of a code without pooling."""
    backbone = network(load, layer, precision, pool="none")
    images = sample_images(load.n_reference, backbone.recipe.size)
    errors = relative_errors(backbone(images)[layer], reference(layer, backbone.recipe.size, load))
    return float(errors.max())


_references: dict[str, np.ndarray] = {}


def reference(layer: str, size: tuple[int, int], load: Load) -> np.ndarray:
    """Compute the codes of the sample images with NumPy in float64, as the paper defines VGG19."""
    from featx.layers import find_layer, layers_up_to
    from featx.network import find_weights, read_weights

    if layer not in _references:
        source = find_weights(
            "random:0" if find_layer(layer).kind == "dense" else "bundled", [layer]
        )
        weights = read_weights(source, [layer])
        x = sample_images(load.n_reference, size)[..., ::-1] - np.array([103.939, 116.779, 123.68])
        for each in layers_up_to(layer):
            if each.kind == "pool":
                n, height, width, channels = x.shape
                x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
                continue
            kernel, bias = (array.astype(np.float64) for array in weights[each.name])
            if each.kind == "dense":
                x = np.maximum(x.reshape(len(x), -1) @ kernel + bias, 0)
                continue
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            height, width = x.shape[1:3]
            x = np.zeros((*x.shape[:3], len(bias))) + bias
            for i, j in np.ndindex(3, 3):
                x += padded[:, i : i + height, j : j + width] @ kernel[i, j]
            np.maximum(x, 0, out=x)
        _references[layer] = x
    return _references[layer]


def host_tf32(load: Load) -> Iterator[Row]:
    """Codes in float32 after the program around featx has allowed TF32."""
    layer = load.cut
    for name, allow in tf32_switches().items():
        allow()
        error = code_error(load, layer, "float32")
        yield checked(
            f"{layer}, float32 after {name}",
            f"{error:.1e}",
            f"at most {LIMITS['float32']:.0e} from float64",
            error <= LIMITS["float32"],
        )


def tf32_switches() -> dict[str, Callable[[], object]]:
    """Return every way in which a program allows TF32, by name."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        name = "jax_default_matmul_precision"
        return {name: partial(jax.config.update, name, "tensorfloat32")}
    if keras.backend.backend() == "torch":
        import torch

        def allow_old() -> None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

        def allow_new() -> None:
            torch.backends.fp32_precision = "tf32"

        found: dict[str, Callable[[], object]] = {"allow_tf32": allow_old}
        if hasattr(torch.backends, "fp32_precision"):  # since PyTorch 2.9
            found["torch.backends.fp32_precision"] = allow_new
        return found
    import tensorflow as tf

    allow = partial(tf.config.experimental.enable_tensor_float_32_execution, True)
    return {"enable_tensor_float_32_execution": allow}


def digests(load: Load) -> Iterator[Row]:
    """Compare the bytes of codes of two processes, and of several sizes of batches."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        one, other = pool.map(codes_by_batch, [load, load])
    whole = max(load.digest_batches)
    for n in load.digest_batches:
        same, said = comparison(one[n], other[n])
        yield checked(f"two processes, batches of {n}", said, "the same bytes", same)
    for n in sorted({*load.digest_batches} - {whole}):
        yield Row(f"batches of {n} and of {whole}", comparison(one[n], one[whole])[1])
    same, said = comparison(one[0], one[whole][: whole - 1])
    name = f"{whole - 1} images in a batch of {whole}, as at the end of a run"
    yield checked(name, said, "the bytes of a full batch", same)


def comparison(codes: np.ndarray, others: np.ndarray) -> tuple[bool, str]:
    """Return whether codes have the same bytes, and a text."""
    if codes.tobytes() == others.tobytes():
        return True, f"the same bytes, sha256 {hashlib.sha256(codes.tobytes()).hexdigest()[:12]}"
    return False, f"other bytes, {relative_errors(codes, others).max():.1e} apart"


def codes_by_batch(load: Load) -> dict[int, np.ndarray]:
    """Return the codes of the same images by the size of the batches.

    At 0 are those of a largest batch that lacks an image.
    """
    from featx.extraction.batching import Batcher

    backbone, whole = network(load, load.cut), max(load.digest_batches)
    images = [(image,) for image in sample_images(whole, backbone.recipe.size)]
    found = {n: Batcher(backbone, n)(images)[load.cut] for n in load.digest_batches}
    return found | {0: Batcher(backbone, whole)(images[:-1])[load.cut]}


def network_alone(load: Load) -> Iterator[Row]:
    """Images per second of the network in bfloat16, and the share of the matrix rate."""
    from featx.layers import gflop

    backbone = network(load, load.cut, load.fast)
    matrix = matrix_rate(load, backbone.device)
    yield Row(f"product of {load.matrix} x {load.matrix}, {load.fast}", f"{matrix:.4g} TFLOP/s")
    best, size = 0.0, (load.size, load.size)
    for n in load.batches:
        # Two batches at once, as in an extraction.
        rate = rate_of(computing(backbone, sample_images(n, size)), 2, load.seconds)
        best = max(best, rate)
        share = rate * gflop(load.cut, size) / 1e3 / matrix
        said = f"{rate:,.0f} images/s, {share:.2f} of the matrix rate"
        yield Row(f"{load.cut}, {load.fast}, batches of {n}", said)
    for part, target in TARGETS.items():
        if part in backbone.device.description and not load.tiny:
            found, expected = f"{best:,.0f} images/s", f"at least {target:,} images/s on an {part}"
            name = f"{load.cut}, {load.fast}, the fastest batch"
            yield checked(name, found, expected, best >= target)


def matrix_rate(load: Load, on: Any) -> float:
    """Return the TFLOP/s of a product of square matrices of random numbers."""
    import keras

    rng = np.random.default_rng(0)
    with on.scope():
        numbers = rng.standard_normal((load.matrix, load.matrix), np.float32)
        x = keras.ops.cast(keras.ops.convert_to_tensor(numbers), load.fast)

        def multiply() -> None:
            for _ in range(10):  # queued one after another
                product = keras.ops.matmul(x, x)
            wait_for(product)

        return 10 * 2 * load.matrix**3 / seconds_of(multiply, load.seconds) / 1e12


def copies(load: Load) -> Iterator[Row]:
    """Speed of copies of images to the device, and of codes back."""
    import keras

    n = load.batches[1]
    images = sample_images(n, (load.size, load.size))
    shape = (n, load.size // 4, load.size // 4, 128)  # the codes of block2_pool
    one = network(load, "block1_pool").device
    with one.scope():

        def there() -> None:
            wait_for(keras.ops.convert_to_tensor(images))

        seconds = seconds_of(there, load.seconds)
        yield Row(f"{n} images to the device", f"{images.nbytes / seconds / 1e9:.2f} GB/s")
        x = keras.ops.ones(shape, "float32")

        def add() -> None:
            wait_for(x + 1)

        def back() -> None:  # JAX keeps a copy on the host, so each one needs a new tensor
            y = x + 1
            wait_for(y)
            keras.ops.convert_to_numpy(y)

        seconds = seconds_of(back, load.seconds) - seconds_of(add, load.seconds)
        said = f"{4 * math.prod(shape) / seconds / 1e9:.2f} GB/s" if seconds > 0 else "too short"
        yield Row(f"{n} codes of block2_pool back", said)


def compiling(load: Load) -> Iterator[Row]:
    """Seconds of the first call, and of the first call with each new shape."""
    started = time.perf_counter()
    backbone = network(load, load.cut, load.fast)
    yield Row("building the network", f"{time.perf_counter() - started:.1f} s")
    side = load.size
    shapes = {
        "the first call": (load.batches[1], side, side),
        "another number of images": (load.batches[0], side, side),
        "another shape of images": (load.batches[1], side, side + 32),
    }
    for name, (n, height, width) in shapes.items():
        images, times = sample_images(n, (height, width)), []
        for _ in range(2):
            started = time.perf_counter()
            backbone(images)
            times.append(time.perf_counter() - started)
        yield Row(
            f"{name}: {n} images of {height} x {width}", f"{times[0]:.2f} s, then {times[1]:.3f} s"
        )


def decoding(load: Load) -> Iterator[Row]:
    """Images per second that threads and processes decode."""
    from featx.images import read_image
    from featx.recipe import Recipe

    recipe = Recipe(weights="random:0", layers=("block1_pool",), size=(load.size, load.size))
    with tempfile.TemporaryDirectory() as folder:
        cases = {"400-pixel JPEGs": (400, 400), "large JPEGs": load.large}
        for name, shape in cases.items():
            files = save_jpegs(Path(folder) / name, [shape] * 4)

            def decode(k: int, files: Sequence[Path] = files) -> int:
                read_image(files[k % len(files)], recipe.size, recipe.resize)
                return 1

            rates = {n: rate_of(decode, n, load.seconds) for n in load.decoders}
            yield Row(f"{name}, images/s by threads", listed(rates))
            rates = {n: decoding_rate(recipe, files, 64, n, load) for n in load.processes}
            yield Row(f"{name}, images/s by processes", listed(rates))


def listed(rates: Mapping[Any, float]) -> str:
    return ", ".join(f"{key}: {rate:,.0f}" for key, rate in rates.items())


def decoding_rate(
    recipe: Any, files: Sequence[Path], batch: int, decoders: int | str, load: Load
) -> float:
    """Return the images per second of the pipeline with a network that takes no time."""
    from featx.extraction.pipeline import stream_codes

    many = list(itertools.islice(itertools.cycle(files), 10**6))
    stream = stream_codes(many, FreeNetwork(recipe), batch, decoders=decoders)
    with contextlib.closing(stream) as batches:
        next(batches)
        for _ in range(2):  # in the first part, processes start
            n_done, began = 0, time.perf_counter()
            while time.perf_counter() - began < load.seconds:
                n_done += next(batches).n_images
            rate = n_done / (time.perf_counter() - began)
        return rate


class FreeNetwork:
    """A backbone that takes no time."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return codes of one feature."""
        return {layer: np.zeros((len(images), 1), np.float32) for layer in self.recipe.layers}

    def join_scales(self, codes: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the codes of the first scale."""
        return {layer: of_scales[0] for layer, of_scales in codes.items()}


def writing(load: Load) -> Iterator[Row]:
    """MB per second that one or several threads write and sync."""
    from featx.network import find_weights
    from featx.recipe import Recipe

    source = find_weights("bundled", ["block2_pool"])
    recipe = Recipe(
        weights=source.identity,
        layers=("block2_pool",),
        size=(load.size, load.size),
        dtype="float16",
    )
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 2, 4):
            rate = writing_rate(recipe, Path(folder) / "codes.h5", load.batches[1], n, load)
            said = f"{rate * recipe.code_bytes() / 1e6:,.0f} MB/s, {rate:,.0f} images/s"
            yield Row(f"block2_pool in float16, {n} writing at once", said)


def writing_rate(recipe: Any, path: Path, batch: int, n_threads: int, load: Load) -> float:
    """Return the rows per second that threads write to one store, batch by batch."""
    from featx.store import ImageFacts, StoreWriter, create_store

    n_batches = 4 * n_threads
    columns = {"path": [f"{k}.jpg" for k in range(n_batches * batch)]}
    columns |= {name: [None] * (n_batches * batch) for name in ("label", "split", "group")}
    create_store(path, recipe, columns, {})
    rng = np.random.default_rng(0)
    codes = {
        layer: rng.random((batch, *recipe.code_shape(layer)), np.float32).astype(recipe.dtype)
        for layer in recipe.layers
    }
    facts = [ImageFacts("0" * 64, 0, np.zeros((32, 32, 3), np.uint8))] * batch
    with StoreWriter(path) as writer:

        def write(k: int) -> int:
            start = k % n_batches * batch
            writer.write_done(np.arange(start, start + batch), codes, facts)
            return batch

        return rate_of(write, n_threads, load.seconds)


def whole_run(load: Load, title: str, kind: str, **settings: Any) -> Iterator[Row]:
    """Run an extraction from files to the store, and compare it with its slowest stage alone."""
    from featx.extraction import prepare_extraction, run_extraction
    from featx.extraction.batching import Batcher, settle_batch_size
    from featx.images import read_image
    from featx.network import load_backbone

    large, small = load.large, (400, 400)
    sizes = {"400": [small], "large": [large], "shapes": [(400, 400), (400, 500), (533, 400)]}
    settings |= {"precision": load.fast, "dtype": "float16"}
    settings |= {"scale": load.scale} if kind == "shapes" else {"size": load.size}
    settings.setdefault("layer", load.cut)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = save_jpegs(folder / "originals", sizes[kind] * 4)
        output = folder / "codes.h5"
        job = prepare_extraction(folder / "originals", output=output, **settings)
        recipe = job.recipe
        backbone = load_backbone(recipe, job.source, spec(load))
        batch = settle_batch_size("auto", recipe, 10**6, backbone.device)
        batch = min(batch, 4) if load.tiny else batch
        batcher = Batcher(backbone, batch)
        views = [
            read_image(file, recipe.view_size, recipe.resize, scales=recipe.scales).views
            for file in files
        ]
        some = [views[k % len(views)] for k in range(batch)]
        stages = {
            "the network": rate_of(computing(batcher, some), 2, load.seconds),
            "decoding": max(
                decoding_rate(recipe, files, batch, decoders, load)
                for decoders in ("threads", max(load.processes))
            ),
            "writing": max(writing_rate(recipe, output, batch, n, load) for n in (1, 4)),
        }
        output.unlink()
        slowest = min(stages, key=lambda stage: stages[stage])
        n_rows = 0.5 * shutil.disk_usage(folder).free / (recipe.code_bytes() + 5000)
        n = max(2 * batch, int(min(load.run_seconds * stages[slowest], n_rows)))
        copy_many(files, folder / "images", n)
        job = prepare_extraction(folder / "images", output=output, batch_size=batch, **settings)
        result = run_extraction(job, load=lambda _: backbone)
        share = result.images_per_second / stages[slowest]
        yield Row(f"{title}, stages alone, images/s", listed(stages))
        yield checked(
            title,
            f"{result.images_per_second:,.0f} images/s for {result.seconds:.0f} s, "
            f"{share:.2f} of {slowest} alone",
            "any share (--tiny)" if load.tiny else f"at least {SHARE}",
            result.n_done == n and (share >= SHARE or load.tiny),
        )


def copy_many(files: Sequence[Path], folder: Path, n: int) -> None:
    """Make n names for files; a name takes less time than a copy, and reads the same bytes."""
    folder.mkdir()
    for k, file in zip(range(n), itertools.cycle(files), strict=False):
        part = folder / str(k // 1000)
        if k % 1000 == 0:
            part.mkdir()
        os.link(file, part / f"{k}.jpg")


def too_large(load: Load) -> Iterator[Row]:
    """Compute a batch that the memory cannot hold: it is halved, and its codes are right."""
    from featx.extraction.batching import Batcher
    from featx.network import activation_bytes

    backbone = network(load, "block1_pool")
    recipe, free = backbone.recipe, backbone.device.free_bytes()
    image = sample_images(1, recipe.size)[0]
    expected = Batcher(backbone, 2)([(image,)] * 2)["block1_pool"]
    emulated = backbone.device.kind == "cpu"
    if emulated:
        tried, n = LittleMemory(backbone, 2), 8
    else:
        # TensorFlow does not say how much memory is free.
        total = free or gpu_total_bytes()
        tried, n = backbone, math.ceil(2 * total / activation_bytes(recipe))
    batcher = Batcher(tried, n)
    found = batcher([(image,)] * n)["block1_pool"]
    error = relative_errors(found, np.repeat(expected[:1], n, axis=0)).max()
    yield checked(
        "a batch that does not fit" + (" (emulated)" if emulated else ""),
        f"{n:,} images became batches of {batcher.batch_size:,}; {error:.1e} from a small batch",
        f"smaller batches, and at most {LIMITS['float32']:.0e}",
        batcher.batch_size < n and error <= LIMITS["float32"],
    )


class LittleMemory:
    """A backbone whose memory holds only a few images."""

    def __init__(self, backbone: Any, most: int) -> None:
        self.backbone, self.recipe, self.most = backbone, backbone.recipe, most

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute codes, or raise MemoryError."""
        if len(images) > self.most:
            raise MemoryError
        return self.backbone(images)


def gpu_total_bytes() -> int:
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return int(said.split()[0]) * 2**20


def finetuning(load: Load) -> Iterator[Row]:
    """Ten steps on the device and on the CPU, from the same weights."""
    from featx.network import find_device

    losses = {}
    for name, one in (("device", find_device(spec(load))), ("cpu", find_device("cpu"))):
        started = time.perf_counter()
        losses[name] = np.array(ten_steps(load, one))
        seconds = time.perf_counter() - started
        yield Row(f"ten steps of fine-tuning, {one.description}", f"{seconds:.1f} s")
    error = np.max(np.abs(losses["device"] - losses["cpu"]) / losses["cpu"])
    falls = losses["device"][-1] < losses["device"][0]
    yield checked(
        "losses of ten steps",
        f"{losses['device'][0]:.4f} to {losses['device'][-1]:.4f}; {error:.1e} from the CPU's",
        "falling, and at most 1e-3 from the CPU's",
        bool(falls and error <= 1e-3),
    )


def ten_steps(load: Load, one: Any) -> list[float]:
    """Return the loss of each of ten steps."""
    from featx.finetuning.heads import random_head
    from featx.finetuning.inputs import Pixels
    from featx.finetuning.network import Network
    from featx.finetuning.settings import TrainingSettings
    from featx.finetuning.trainer import Labels
    from featx.finetuning.training import train
    from featx.network import find_weights, read_weights
    from featx.recipe import Recipe

    # The CPU should not need a minute for its ten steps.
    cut, n, size = load.cut, load.batches[0], (32, 32) if load.tiny else (96, 96)
    source = find_weights("bundled", [cut])
    recipe = Recipe(weights=source.identity, layers=(cut,), pool="avg", size=size)
    # An epoch is one step, so the history has the loss of each step.
    settings = TrainingSettings(
        augment="none", batch_size=n, epochs=10, patience=99, schedule="constant", lr=1e-3
    )
    head = random_head(("a", "b"), recipe.code_size(cut), (), 0, "l2")
    tuned = Network(recipe, read_weights(source, [cut]), head, settings, one)
    numbers = np.arange(n) % 2
    labels = Labels(numbers, np.ones(n), train_rows=np.arange(n), stopping_rows=np.arange(2))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.h5"
        images = Pixels(sample_images(n, size))
        found = train(tuned, images, labels, settings, checkpoint, identity={})
    return [float(each.loss or np.nan) for each in found.history[1:]]


# Running the checks


@dataclass(frozen=True)
class Section:
    """A check, the seconds that it may take, and whether it needs a process for itself."""

    run: Callable[[Load], Iterator[Row]]
    seconds: float
    alone: bool = False


def run_section(title: str, kind: str, **settings: Any) -> Section:
    return Section(partial(whole_run, title=f"whole run, {title}", kind=kind, **settings), 90)


SECTIONS = {
    "device": Section(device, 60),
    "codes": Section(codes, 90),
    "host_tf32": Section(host_tf32, 60, alone=True),  # leaves TF32 allowed
    "digests": Section(digests, 90),
    "network": Section(network_alone, 120),
    "copies": Section(copies, 30),
    "compiling": Section(compiling, 90),
    "decoding": Section(decoding, 60),
    "writing": Section(writing, 60),
    "run_400": run_section("averaged, 400-pixel JPEGs", "400", pool="avg"),
    "run_large": run_section("averaged, large JPEGs", "large", pool="avg"),
    "run_flat": run_section("block2_pool flattened", "400", layer="block2_pool"),
    "run_scale": run_section("averaged, --scale", "shapes", pool="avg"),
    "finetuning": Section(finetuning, 60),
    "too_large": Section(too_large, 90, alone=True),  # an error of the memory may break others
}


def work(pipe: Connection, sections: Sequence[Section], load: Load) -> None:
    """Run checks in this process, and send their rows; None follows the last row of a check."""
    os.setsid()  # so that the processes that it starts are ended with it
    for section in sections:
        try:
            for row in section.run(load):
                pipe.send(row)
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            pipe.send(Row("runs to its end", reason, "no error", "FAIL"))
        pipe.send(None)


class Process:
    """A process that runs some checks one after another."""

    def __init__(self, sections: Sequence[Section], load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._rows, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(sender, sections, load))
        self._process.start()
        sender.close()

    def rows(self, seconds: float) -> Iterator[Row]:
        """Yield the rows of the next check.

        Raises
        ------
        RuntimeError
            It takes longer, or the process has ended.
        """
        stop = time.monotonic() + seconds
        while self._rows.poll(max(0.0, stop - time.monotonic())):
            try:
                row = self._rows.recv()
            except EOFError:
                self._process.join()
                message = f"the process ended with exit code {self._process.exitcode}"
                raise RuntimeError(message) from None
            if row is None:
                return
            yield row
        message = f"took more than {seconds:.0f} s"
        raise RuntimeError(message)

    def end(self) -> None:
        """End the process, and those that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.join()


def run_all(
    sections: Mapping[str, Section], load: Load, minutes: float
) -> Iterator[tuple[str, Row]]:
    """Run checks in processes, and yield their rows; a process that ends is replaced."""
    waiting, deadline = deque(sections.items()), time.monotonic() + 60 * minutes
    while waiting and time.monotonic() < deadline:
        together = itertools.takewhile(lambda item: not item[1].alone, waiting)
        part = list(together) or [waiting[0]]
        process = Process([section for _, section in part], load)
        try:
            for name, section in part:
                waiting.popleft()
                seconds = section.seconds * (5 if load.tiny else 1)
                for row in process.rows(min(seconds, deadline - time.monotonic())):
                    yield name, row
        except RuntimeError as error:
            yield name, Row("runs to its end", str(error), "no error", "FAIL")
        finally:
            process.end()
    for name, _ in waiting:
        yield name, Row("runs", f"{minutes:g} minutes are over", "enough time", "FAIL")


def table(rows: Sequence[tuple[str, Row]], title: str) -> str:
    counts = {verdict: 0 for verdict in ("pass", "FAIL", "measured", "skipped")}
    lines = ["| section | check | found | expected | |", "| --- | --- | --- | --- | --- |"]
    for name, row in rows:
        counts[row.verdict] += 1
        cells = (name, row.check, row.found, row.expected, row.verdict)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    return "\n".join([*lines, "", f"{title}: {said}"])


def main() -> int:
    """Run the checks; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("jax", "torch", "tensorflow"), required=True)
    parser.add_argument("--tiny", action="store_true", help="Small inputs, on any device.")
    parser.add_argument("--sections", help=f"Some of {','.join(SECTIONS)}.")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="All checks end after this time."
    )
    parser.add_argument("--output", type=Path, help="A file for the table.")
    args = parser.parse_args()
    names = args.sections.split(",") if args.sections else list(SECTIONS)
    unknown = sorted(set(names) - SECTIONS.keys())
    if unknown:
        parser.error(f"unknown --sections {','.join(unknown)}; expected {','.join(SECTIONS)}")
    os.environ["KERAS_BACKEND"] = args.backend  # for the processes of the checks
    began, rows = time.perf_counter(), []
    sections = {name: SECTIONS[name] for name in names}
    for name, row in run_all(sections, TINY if args.tiny else FULL, args.minutes):
        rows.append((name, row))
        print(f"{row.verdict:8} {name}: {row.check}: {row.found}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    title = f"{args.backend}{', --tiny' if args.tiny else ''}, {seconds:.0f} s"
    text = table(rows, title)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return int(any(row.verdict == "FAIL" for _, row in rows))


if __name__ == "__main__":
    sys.exit(main())
