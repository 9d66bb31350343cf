"""Compare extraction with its upper bound and with simple scripts.

    python benchmarks/extraction.py ../shared/data/rsscn7_350

Each case runs in its own process: (a) the network alone on arrays in memory; (b) decoding alone
and (c) writing alone, in processor seconds per image; (d) featx from files to the store; (e) a
simple script with Keras; (f) PyTorch with a DataLoader, if it is installed.

On a CPU, the stages share the processors, and the bound of (d) is 1 / (a + (b + c) / processors).
On a GPU, the stages overlap, and the bound is the slowest: min(1 / a, processors / (b + c)).
Networks are compiled, and computed once, before the clock starts.
"""

import argparse
import importlib.util
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from measuring import measured

BATCH = 32  # in (e) and (f), as in the examples of Keras


@dataclass(frozen=True)
class Setting:
    """Settings of an extraction."""

    layer: str
    size: int
    precision: str
    dtype: str


SETTINGS = [
    Setting("block2_pool", 256, "float32", "float32"),
    Setting("block2_pool", 256, "bfloat16", "float16"),
    Setting("block5_pool", 224, "float32", "float32"),
    Setting("block5_pool", 224, "bfloat16", "float16"),
]


def prepared(images: str, setting: Setting, output: Path) -> object:
    from featx.extraction import prepare_extraction

    return prepare_extraction(
        images,
        layer=setting.layer,
        size=setting.size,
        precision=setting.precision,
        dtype=setting.dtype,
        output=output,
        overwrite=True,
    )


def network_alone(images: str, setting: Setting) -> dict:
    """Return the seconds per image of the network, with one or two batches at once."""
    import numpy as np

    from featx.extraction.batching import settle_batch_size
    from featx.network import load_backbone

    job = prepared(images, setting, Path(tempfile.gettempdir()) / "none.h5")
    backbone = load_backbone(job.recipe, job.source)
    size = settle_batch_size("auto", job.recipe, job.n_images, backbone.device)
    shape = (size, setting.size, setting.size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    backbone(batch)
    rates = []
    for n_threads in (1, 2):
        with ThreadPoolExecutor(n_threads) as pool:
            started, n_done = time.perf_counter(), 0
            while time.perf_counter() - started < 8:
                n_done += sum(
                    len(b["x"])
                    for b in pool.map(lambda _: {"x": batch, **backbone(batch)}, range(8))
                )
            rates.append(n_done / (time.perf_counter() - started))
    return {"seconds": 1 / max(rates), "batch": size, "kind": backbone.device.kind}


def decoding_alone(images: str, setting: Setting) -> dict:
    """Return the processor seconds per image of reading and decoding."""
    from featx.images import read_image

    job = prepared(images, setting, Path(tempfile.gettempdir()) / "none.h5")
    recipe = job.recipe
    read_image(job.files[0], recipe.size, recipe.resize)
    started = time.process_time()
    for file in job.files:
        read_image(file, recipe.size, recipe.resize)
    return {"seconds": (time.process_time() - started) / len(job.files)}


def writing_alone(images: str, setting: Setting, batch: int) -> dict:
    """Return the processor seconds per image of writing a row of a store."""
    import numpy as np

    from featx.images import read_image
    from featx.store import ImageFacts, StoreWriter, create_store

    with tempfile.TemporaryDirectory() as folder:
        job = prepared(images, setting, Path(folder) / "codes.h5")
        recipe = job.recipe
        create_store(job.output, recipe, job.columns(), {})
        shape = (batch, *recipe.code_shape(setting.layer))
        codes = np.random.default_rng(0).random(shape, np.float32).astype(recipe.dtype)
        image = read_image(job.files[0], recipe.size, recipe.resize)
        facts = [ImageFacts(image.sha256, image.phash, image.thumbnail)] * batch
        starts = range(0, job.n_images - batch, batch)
        with StoreWriter(job.output) as writer:
            started = time.process_time()
            for start in starts:
                rows = np.arange(start, start + batch)
                writer.write_done(rows, {setting.layer: codes}, facts)
            seconds = time.process_time() - started
    return {"seconds": seconds / (len(starts) * batch)}


def featx_whole(images: str, setting: Setting) -> dict:
    """Extract with featx; the network is loaded and warm before."""
    import numpy as np

    from featx.extraction import run_extraction
    from featx.extraction.batching import settle_batch_size
    from featx.network import load_backbone

    with tempfile.TemporaryDirectory() as folder:
        job = prepared(images, setting, Path(folder) / "codes.h5")
        backbone = load_backbone(job.recipe, job.source)
        size = settle_batch_size("auto", job.recipe, job.n_images, backbone.device)
        backbone(np.zeros((size, setting.size, setting.size, 3), np.uint8))
        result = run_extraction(job, load=lambda _: backbone)
    return {"seconds": 1 / result.images_per_second, "timings": result.timings}


def keras_script(images: str, setting: Setting) -> dict:
    """Extract as in the documentation of Keras: load_img, preprocess_input, predict, h5py."""
    import h5py
    import keras
    import numpy as np
    from keras.applications.vgg19 import VGG19, preprocess_input

    from featx.network import find_weights, read_weights

    size = (setting.size, setting.size)
    files = sorted(Path(images).rglob("*.jpg"))
    whole = VGG19(weights=None, include_top=False, input_shape=(*size, 3))
    for name, arrays in read_weights(
        find_weights("bundled", (setting.layer,)), (setting.layer,)
    ).items():
        whole.get_layer(name).set_weights(list(arrays))
    model = keras.Model(whole.input, whole.get_layer(setting.layer).output)
    model.predict(np.zeros((BATCH, *size, 3), np.float32), verbose=0)
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        h5py.File(Path(folder) / "codes.h5", "w") as store,
    ):
        codes = store.create_dataset("codes", (len(files), *model.output.shape[1:]), "f4")
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            loaded = [
                keras.utils.img_to_array(keras.utils.load_img(f, target_size=size)) for f in part
            ]
            codes[start : start + len(part)] = model.predict(
                preprocess_input(np.stack(loaded)), verbose=0
            )
        store.flush()
    return {"seconds": (time.perf_counter() - started) / len(files)}


def torch_script(images: str, setting: Setting) -> dict:
    """Extract with an eager PyTorch model, a DataLoader with workers, and h5py."""
    import h5py
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from featx.layers import layers_up_to
    from featx.network import find_weights, read_weights

    class Images(Dataset):
        def __init__(self, files: list[Path]) -> None:
            self.files = files

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = Image.open(self.files[index]).convert("RGB")
            pixels = np.asarray(image.resize((setting.size, setting.size), Image.BILINEAR), "f4")
            return torch.from_numpy(pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], "f4"))

    weights = read_weights(find_weights("bundled", (setting.layer,)), (setting.layer,))
    modules: list[torch.nn.Module] = []
    for layer in layers_up_to(setting.layer):
        if layer.kind == "pool":
            modules.append(torch.nn.MaxPool2d(2))
            continue
        kernel, bias = weights[layer.name]
        conv = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
        conv.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        conv.bias.data = torch.from_numpy(bias)
        modules += [conv, torch.nn.ReLU(inplace=True)]
    kind = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
    model = torch.nn.Sequential(*modules).to(kind).to(memory_format=torch.channels_last).eval()
    files = sorted(Path(images).rglob("*.jpg"))
    workers = {"num_workers": os.cpu_count() or 1, "multiprocessing_context": "fork"}
    loader = DataLoader(Images(files), BATCH, **workers)
    with torch.no_grad():
        model(torch.zeros((BATCH, 3, setting.size, setting.size), dtype=kind))
    started, start = time.perf_counter(), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        h5py.File(Path(folder) / "codes.h5", "w") as store,
    ):
        codes = None
        with torch.no_grad():
            for batch in loader:
                found = (
                    model(batch.permute(0, 3, 1, 2).to(kind)).permute(0, 2, 3, 1).float().numpy()
                )
                if codes is None:
                    codes = store.create_dataset(
                        "codes", (len(files), *found.shape[1:]), setting.dtype
                    )
                codes[start : start + len(found)] = found
                start += len(found)
        store.flush()
    return {"seconds": (time.perf_counter() - started) / len(files)}


def main() -> None:
    """Run all cases and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="A folder of JPEGs.")
    images = parser.parse_args().images
    n_cores = os.cpu_count() or 1
    torch = importlib.util.find_spec("torch") is not None
    print("| case | images/s | of the bound | speedup | peak memory, MB | |")
    print("| --- | --- | --- | --- | --- | --- |")
    script_float32 = 1.0
    for setting in SETTINGS:
        network = measured(network_alone, images, setting)
        decode = measured(decoding_alone, images, setting)
        write = measured(writing_alone, images, setting, network["batch"])
        host = (decode["seconds"] + write["seconds"]) / n_cores
        stages = network["seconds"], host
        bound = max(stages) if network["kind"] == "gpu" else sum(stages)
        whole = measured(featx_whole, images, setting)
        rows = [
            ("(a) network alone", network, f"batches of {network['batch']} images"),
            ("(b) decoding, one processor", decode, f"{1e3 * decode['seconds']:.1f} ms per image"),
            ("(c) writing, one processor", write, f"{1e3 * write['seconds']:.2f} ms per image"),
            ("(d) featx", whole, f"network busy {whole['timings'].network:.0%} of the time"),
        ]
        if setting.precision == "float32":  # the script supports only float32
            script = measured(keras_script, images, setting)
            script_float32 = script["seconds"]
            rows.append(("(e) Keras script, float32", script, ""))
        if torch:
            rows.append(("(f) PyTorch, DataLoader", measured(torch_script, images, setting), ""))
        title = f"{setting.layer} at {setting.size}, {setting.precision}, store {setting.dtype}"
        print(f"| **{title}** | | | | | |")
        for name, row, note in rows:
            seconds, ratios = row["seconds"], " | "
            if name[:3] in {"(d)", "(e)", "(f)"}:
                ratios = f"{bound / seconds:.3f} | {script_float32 / seconds:.2f}"
            print(
                f"| {name} | {1 / seconds:.1f} | {ratios} | {row['peak_mb']} | {note} |", flush=True
            )


if __name__ == "__main__":
    main()
