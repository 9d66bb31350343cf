"""A store with hostile names and a model fitted on it, for two test files."""

import numpy as np

import featx
from featx.recipe import Recipe

HOSTILE_PATHS = (
    "<img src=x onerror=alert(1)>.png",
    '"><script>alert(1)</script>.png',
    "</script><script>alert(2)</script>.png",
    "{{7*191}}{% raw %}.png",
    "javascript:alert(1)",
    "' onfocus='alert(1)' x='.png",
    "<!--.png",
    "]]>&amp;\u202e\u2028\x1b[31m.png",
)
HOSTILE_LABELS = (
    "</script><script>alert(3)</script>",
    "<b onclick=alert(4)>{{7*191}}</b>",
    "$x_{$&",
)


def hostile_store(path, make_store, n=48, **facts):
    """Write a store of images whose names and classes are HTML, scripts and templates."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    codes = rng.normal(0, 1, (n, 64))
    codes[np.arange(n), y] += 1.5
    names = [f"{k:03}{HOSTILE_PATHS[k % len(HOSTILE_PATHS)]}" for k in range(n)]
    recipe = Recipe(weights="random:0", layers=("block1_conv1",), pool="avg", size=(32, 32))
    return make_store(
        path,
        {"block1_conv1": codes.astype(np.float32)},
        labels=[HOSTILE_LABELS[k] for k in y],
        recipe=recipe,
        **{"paths": names, "failed": {0: "<script>alert(5)</script>"}, **facts},
    )


def hostile_model(folder, make_store, **facts):
    """Fit on a hostile store; return the path of the model."""
    store = hostile_store(folder / "codes.h5", make_store, **facts)
    featx.fit(store, C=1.0, output=folder / "model.skops")
    return folder / "model.skops"
