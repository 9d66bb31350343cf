"""Compare epochs with and without cached activations of the frozen layers.

    python benchmarks/finetuning.py

The images are noise, which takes the network as long as real images. The bound counts
multiplications: a step is one forward pass through the frozen layers, and three passes through the
others, forward and twice backward. Each case runs in its own process, in alternating rounds, and
the fastest epochs are compared, because other programs only make an epoch slower.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measuring import measured

CUT = "block5_pool"


def epochs(frozen: str, cached: bool, n: int, size: int) -> dict:
    """Train for a few epochs; return the seconds of all but the first, and the losses."""
    from featx.finetuning.heads import random_head
    from featx.finetuning.inputs import Activations, Pixels
    from featx.finetuning.network import Network
    from featx.finetuning.settings import TrainingSettings
    from featx.finetuning.trainer import Labels
    from featx.finetuning.training import train
    from featx.network import VGG19Backbone, find_device, find_weights, read_weights
    from featx.recipe import Recipe

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    recipe = Recipe(weights="bundled", layers=(CUT,), pool="avg", size=(size, size))
    weights = read_weights(find_weights("bundled", [CUT]), [CUT])
    classes = tuple("abcdefghij")
    tuning = TrainingSettings(freeze_until=frozen, augment="none", epochs=4, patience=9)
    head = random_head(classes, recipe.code_size(CUT), (), 0, "l2")
    network = Network(recipe, weights, head, tuning, find_device("cpu"))
    inputs: Pixels | Activations = Pixels(images)
    if cached:
        first = Recipe(weights="bundled", layers=(frozen,), size=(size, size))
        needed = read_weights(find_weights("bundled", [frozen]), [frozen])
        backbone = VGG19Backbone(first, needed)
        parts = [backbone(images[k : k + 16])[frozen] for k in range(0, n, 16)]
        inputs = Activations(np.concatenate(parts))
    labels = Labels(
        rng.integers(0, 10, n), np.ones(n), train_rows=np.arange(n), stopping_rows=np.arange(16)
    )
    with tempfile.TemporaryDirectory() as folder:
        found = train(network, inputs, labels, tuning, Path(folder) / "c.h5", identity={})
    return {
        "seconds": [epoch.seconds for epoch in found.history[2:]],
        "losses": [epoch.loss for epoch in found.history[1:]],
    }


def bound(frozen: str, size: int, n_stop: float) -> float:
    """Return the ratio of the multiplications of an epoch without and with a cache."""
    from featx.layers import gflop

    frozen_cost, whole = (gflop(name, (size, size)) for name in (frozen, CUT))
    tail = whole - frozen_cost
    # The early-stopping set only goes forward.
    without = (1 + n_stop) * frozen_cost + (3 + n_stop) * tail
    return without / ((3 + n_stop) * tail) if tail else np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| frozen up to | epoch, s | cached, s | speedup | of the bound | difference of losses |")
    print("| --- | --- | --- | --- | --- | --- |")
    for frozen in ("block3_pool", "block4_pool", CUT):
        plain, cached = [], []
        for _ in range(args.rounds):
            plain.append(measured(epochs, frozen, False, args.images, args.size))
            cached.append(measured(epochs, frozen, True, args.images, args.size))
        slow, fast = (min(s for run in runs for s in run["seconds"]) for runs in (plain, cached))
        limit = bound(frozen, args.size, 16 / args.images)
        fraction = f"{slow / fast / limit:.2f} of {limit:.2f}" if np.isfinite(limit) else ""
        gap = max(
            np.abs(np.subtract(a["losses"], b["losses"])).max()
            for a, b in zip(plain, cached, strict=True)
        )
        print(
            f"| {frozen} | {slow:.2f} | {fast:.3f} | {slow / fast:.1f} | {fraction} | {gap:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
