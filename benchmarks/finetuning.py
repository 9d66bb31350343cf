"""What a cache of the frozen layers saves: an epoch with it beside one without.

    python benchmarks/finetuning.py

Images are noise, which costs the network what pictures cost it. The bound counts
products: a step goes forward through the frozen layers once, and through the
others three times, forward and twice back. Each case runs in a process of its own, the two
ways in turn, round after round, and their fastest epochs are compared: whatever else
the machine does only ever adds to an epoch.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measuring import measured

CUT = "block5_pool"


def epochs(frozen: str, cached: bool, n: int, size: int) -> dict:
    """Train for a few epochs, and return the seconds of each but the first, and the losses."""
    from featx.finetuning.heads import random_head
    from featx.finetuning.inputs import Activations, Pixels
    from featx.finetuning.network import build_network
    from featx.finetuning.settings import TrainingSettings
    from featx.finetuning.trainer import Labels
    from featx.finetuning.training import train
    from featx.network import build_backbone, find_device, find_weights, read_weights
    from featx.recipe import Recipe

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    recipe = Recipe(weights="bundled", layers=(CUT,), pool="avg", size=(size, size))
    weights = read_weights(find_weights("bundled", [CUT]), [CUT])
    classes = tuple("abcdefghij")
    tuning = TrainingSettings(freeze_until=frozen, augment="none", epochs=4, patience=9)
    head = random_head(classes, recipe.code_size(CUT), (), 0, "l2")
    network = build_network(recipe, weights, head, tuning, find_device("cpu"))
    shown: Pixels | Activations = Pixels(images)
    if cached:
        first = Recipe(weights="bundled", layers=(frozen,), size=(size, size))
        needed = read_weights(find_weights("bundled", [frozen]), [frozen])
        backbone = build_backbone(first, needed)
        parts = [backbone(images[k : k + 16])[frozen] for k in range(0, n, 16)]
        shown = Activations(np.concatenate(parts))
    labels = Labels(
        rng.integers(0, 10, n), np.ones(n), train_rows=np.arange(n), stopping_rows=np.arange(16)
    )
    with tempfile.TemporaryDirectory() as folder:
        found = train(network, shown, labels, tuning, Path(folder) / "c.h5", identity={})
    return {
        "seconds": [epoch.seconds for epoch in found.history[2:]],
        "losses": [epoch.loss for epoch in found.history[1:]],
    }


def bound(frozen: str, size: int, n_stop: float) -> float:
    """Return how many times fewer products an epoch has that is cached."""
    from featx.layers import gflop

    ahead, whole = (gflop(name, (size, size)) for name in (frozen, CUT))
    tail = whole - ahead
    # The stopping part goes forward only.
    without = (1 + n_stop) * ahead + (3 + n_stop) * tail
    return without / ((3 + n_stop) * tail) if tail else np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("| frozen | an epoch, s | cached, s | times | of the bound | losses differ by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for frozen in ("block3_pool", "block4_pool", CUT):
        plain, cached = [], []
        for _ in range(given.rounds):
            plain.append(measured(epochs, frozen, False, given.images, given.size))
            cached.append(measured(epochs, frozen, True, given.images, given.size))
        slow, fast = (min(s for run in way for s in run["seconds"]) for way in (plain, cached))
        most = bound(frozen, given.size, 16 / given.images)
        share = f"{slow / fast / most:.2f} of {most:.2f}" if np.isfinite(most) else ""
        apart = max(
            np.abs(np.subtract(a["losses"], b["losses"])).max()
            for a, b in zip(plain, cached, strict=True)
        )
        print(
            f"| {frozen} | {slow:.2f} | {fast:.3f} | {slow / fast:.1f} | {share} | {apart:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
