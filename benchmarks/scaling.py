"""Print the tables of docs/scaling.md: images per second, sizes of stores, and costs of fits.

    python benchmarks/scaling.py

This is arithmetic from the constants below, and measures nothing. The sizes of codes, stores and
chunks, the FLOP and the cost of a fit are computed by featx.
"""

import math

from featx.extraction.executors import images_per_chunk
from featx.fitting.solvers import estimate_cost
from featx.layers import gflop
from featx.recipe import Recipe
from featx.store.layout import store_bytes

# measured, see benchmarks/README.md
DECODED = 300  # images per second and core: "Extraction", JPEGs of 400x400
WRITTEN = 500e6  # bytes of codes per second and core: "Extraction", block2_pool
ONE_THREAD = 370e6  # bytes per second of one thread that writes and syncs in series, on two cores
IN_THREADS = 2500  # images per second: 16 threads of one process share the interpreter's lock
INTERPRETER = 1e-4  # seconds of that lock per image in the process of the network, at most
CHUNKS = 400  # chunks per second of Dask's scheduler: "Scheduling and scaling"
LISTED = 520  # bytes per image in the client, at least: "Scheduling and scaling"
CPU = 444e9  # FLOP/s of two cores in bfloat16: "Scales and mirror images"

# assumed, not measured
PEAK = 989e12  # FLOP/s of an H100, dense bfloat16, from its data sheet
REACHED = 0.4  # fraction of the peak that VGG19 reaches
CORES = 16  # cores of a machine with one GPU
LINK = 25e9 / 8  # bytes per second in each direction, for each machine
DISK = 10e9  # bytes per second of the shared file system, read and written
JPEG = 100e3  # bytes per image

FILE = 16 * 2**40  # maximum size of a file in bytes: ext4 with blocks of 4 KiB
CLASSES = 10

CASES = [("block5_pool", "avg"), ("block2_pool", "none")]
DTYPES = ("float16", "float32")
GPUS = (1, 4, 16, 32, 100)
IMAGES = tuple(10**k for k in range(4, 9))


def recipe_of(layer: str, pool: str, dtype: str) -> Recipe:
    return Recipe(weights="bundled", layers=(layer,), pool=pool, dtype=dtype, size=(224, 224))


def limits(recipe: Recipe, n_gpus: int, n_images: int = 10**7) -> dict[str, float]:
    """Return the images per second that each part allows; the smallest is the rate.

    Each machine has one process with one GPU. Other processes of the machine decode, and
    the threads that write share one file, which the kernel fills with one core at a time.
    """
    (layer,), code = recipe.layers, recipe.code_bytes()
    return {
        "GPU": n_gpus * REACHED * PEAK / (1e9 * gflop(layer, recipe.size)),
        "cores": n_gpus * CORES / (1 / DECODED + code / WRITTEN),
        "interpreter": n_gpus / INTERPRETER,
        "writer": n_gpus * WRITTEN / code,
        "link": n_gpus * LINK / max(JPEG, code),
        "file system": DISK / (JPEG + code),
        "scheduler": CHUNKS * images_per_chunk(n_images, n_gpus),
    }


def row_bytes(recipe: Recipe) -> float:
    """Return the bytes per image in a store, including its facts."""
    names = {"path": ["class/n00000001.jpg"] * 1000, "label": ["class"] * 1000}
    return store_bytes(recipe, names | {"split": [None] * 1000, "group": [None] * 1000}) / 1000


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def named(layer: str, pool: str) -> str:
    return f"{layer}, {'flattened' if pool == 'none' else pool}"


def rates() -> str:
    rows = []
    for layer, pool in CASES:
        for dtype in DTYPES:
            recipe = recipe_of(layer, pool, dtype)
            for n_gpus in GPUS:
                found = sorted(limits(recipe, n_gpus).items(), key=lambda each: each[1])
                (limit, rate), (after, then) = found[:2]
                rows.append([named(layer, pool), dtype, str(n_gpus), f"{rate:,.0f}",
                             f"{rate * recipe.code_bytes() / 1e9:.2f}", limit,
                             f"{after}, {then / rate:.1f} times"])  # fmt: skip
    head = ["codes", "store", "GPUs", "images/s", "GB/s written", "bottleneck", "next bottleneck"]
    return table(head, rows)


def stores() -> str:
    rows = []
    for layer, pool in CASES:
        for dtype in DTYPES:
            recipe = recipe_of(layer, pool, dtype)
            on_cpu = CPU / (1e9 * gflop(layer, recipe.size))
            for n in IMAGES:
                n_bytes = n * row_bytes(recipe)
                times = [n / on_cpu]
                times += [n / min(limits(recipe, k, n).values()) for k in (1, 16, 100)]
                rows.append([named(layer, pool), dtype, power(n), format_bytes(n_bytes),
                             str(math.ceil(n_bytes / FILE)), format_bytes(n * LISTED),
                             *(format_seconds(each) for each in times)])  # fmt: skip
    head = ["codes", "store", "images", "on disk", "files of 16 TiB", "coordinator memory",
            "2 cores", "1 GPU", "16", "100"]  # fmt: skip
    return table(head, rows)


def fits() -> str:
    rows = []
    for layer, pool in reversed(CASES):
        recipe = recipe_of(layer, pool, "float32")
        d = recipe.code_size(layer)
        for n in (10_000, 20_000, 50_000, 100_000, 10**6, 10**7):
            exact = estimate_cost("primal" if d < n else "gram", n, d, CLASSES)
            streamed = estimate_cost("streamed", n, d, CLASSES)
            rows.append([named(layer, pool), f"{n:,}", exact.name,
                         format_bytes(8 * n * n) if exact.name == "gram" else "",
                         format_bytes(exact.n_bytes), format_seconds(exact.seconds),
                         format_bytes(streamed.n_bytes),
                         format_seconds(streamed.seconds)])  # fmt: skip
    head = ["codes", "images", "exact solver", "Gram matrix", "memory", "time", "streamed: memory",
            "streamed: time"]  # fmt: skip
    return table(head, rows)


def hosts() -> str:
    """Return the speed of the host of one GPU, with threads or processes, one writer or several."""
    rows = []
    for layer, pool in CASES:
        for dtype in DTYPES:
            recipe = recipe_of(layer, pool, dtype)
            code, found = recipe.code_bytes(), limits(recipe, 1)
            cells = []
            for decoding in (min(found["cores"], IN_THREADS), min(found["cores"], 1 / INTERPRETER)):
                for written in (ONE_THREAD, WRITTEN):
                    host = {"decoding": decoding, "writing": written / code}
                    limit = min(host, key=host.__getitem__)
                    cells.append(f"{host[limit]:,.0f}, {limit}")
            rows.append([named(layer, pool), dtype, *cells])
    head = ["codes", "store", "threads, one writer", "threads, several writers",
            "processes, one writer", "processes, several writers"]  # fmt: skip
    return table(head, rows)


def example() -> str:
    """Return one example with all terms."""
    n_gpus, recipe = 16, recipe_of("block2_pool", "none", "float16")
    code, found = recipe.code_bytes(), limits(recipe, n_gpus)
    chunk = images_per_chunk(10**7, n_gpus)
    cost = gflop("block2_pool", recipe.size)
    limit = min(found, key=found.__getitem__)
    terms = [
        ("code", "56 * 56 * 128 * 2", f"{code / 1e6:.3f} MB"),
        ("GPU", f"{n_gpus} * {REACHED} * {PEAK / 1e12:.0f} TFLOP/s / {cost:.2f} GFLOP", "GPU"),
        ("cores", f"{n_gpus} * {CORES} / (1/{DECODED} s + {code / WRITTEN * 1e3:.2f} ms)", "cores"),
        ("interpreter", f"{n_gpus} / {INTERPRETER * 1e3:.1f} ms", "interpreter"),
        ("writer", f"{n_gpus} * {WRITTEN / 1e6:.0f} MB/s / {code / 1e6:.3f} MB", "writer"),
        ("link", f"{n_gpus} * {LINK / 1e9:.3f} GB/s / {max(JPEG, code) / 1e6:.3f} MB", "link"),
        ("file system", f"{DISK / 1e9:.0f} GB/s / {(JPEG + code) / 1e6:.3f} MB", "file system"),
        ("scheduler", f"{CHUNKS} chunks/s * {chunk:,} images", "scheduler"),
        ("rate", "smallest of these", limit),
    ]
    return "\n".join(
        f"{name:<11} = {term:<38} = {f'{found[of]:,.0f} images/s' if of in found else of}"
        for name, term, of in terms
    )


def power(n: int) -> str:
    return f"10^{round(math.log10(n))}"


def format_bytes(n_bytes: float) -> str:
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes / 1e6:,.0f} MB"


def format_seconds(seconds: float) -> str:
    for unit, factor in (("years", 3.156e7), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:,.0f} {unit}"
    return f"{seconds:,.0f} s" if seconds >= 1 else "under 1 s"


def parts() -> dict[str, str]:
    """Return the tables of the page by name."""
    tables = {"rates": rates(), "hosts": hosts(), "stores": stores()}
    return tables | {"fits": fits(), "example": example()}


def main() -> None:
    for name, text in parts().items():
        print(f"{name}\n\n{text}\n")


if __name__ == "__main__":
    main()
