"""A store with hostile names, a model fitted on it, and results of other verbs, for tests."""

import numpy as np

import featx
from featx.metrics.evaluation import score_predictions
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
    featx.fit(store, C=1.0, repeats=1, output=folder / "model.skops")
    return folder / "model.skops"


def score(value):
    return {"value": value, "low": value - 0.1, "high": min(1.0, value + 0.1)}


def sweep_facts():
    """Return the content of a sweep.json with two rows, made by hand."""
    row = {
        "layers": ["block1_conv1"], "pool": "avg", "size": [32, 32], "n_features": 64,
        "accuracy": score(0.8), "balanced_accuracy": score(0.7), "bytes_per_image": 256.0,
        "seconds_per_image": 0.01,
    }  # fmt: skip
    other = {**row, "layers": ["block2_pool"], "accuracy": score(0.5), "seconds_per_image": None}
    verdict = {"verdict": "undecided", "text": "Undecided <i>whether</i>.", "difference": None}
    return {
        "format": "featx-sweep", "format_version": 2, "rows": [other, row],
        "best": "block1_conv1, avg, 32", "cheapest": "block2_pool, avg, 32",
        "expected_accuracy": score(0.7), "final": None,
        "learning_curve": [
            {"fraction": n / 18, "n_train": n, "accuracy": score(0.6)} for n in (9, 18)
        ],
        "domain_verdict": verdict, "more_images_verdict": verdict, "fit": {"clf": "ridge"},
        "notes": ["A <b>note</b>."],
        "commands": ["featx extract a", "featx fit b", "featx finetune c"],
    }  # fmt: skip


def tuning_facts(evaluation=None):
    """Return the content of a run.json, made by hand."""
    evaluation = evaluation or small_evaluation()
    recipe = {"weights": "random:0", "layers": ["block1_pool"], "pool": "avg", "size": [32, 32]}
    epoch = {
        "epoch": 0, "rate": 0.0, "loss": None, "accuracy": None, "stopping_loss": 1.0,
        "stopping_accuracy": 0.5, "seconds": 1.0, "images_per_second": 0.0,
    }  # fmt: skip
    scores = {name: score(0.6) for name in ("majority", "probe", "tuned", "fit_on_tuned")}
    return {
        "format": "featx-finetuning", "format_version": 2, "recipe": recipe, **scores,
        "gain": score(0.0), "advice": "Use the <probe>.", "tuned_scores": evaluation.to_dict(),
        "history": [epoch, {**epoch, "epoch": 1, "accuracy": 0.7, "loss": 0.9}],
        "best_epoch": 1, "resumed_epochs": 0, "micro_batch": 32, "ended": "all epochs completed",
        "seconds": 9.0, "notes": [],
        "split": {"train": 9, "early_stopping": 2, "test": 4, "test_from": "val"},
        "head": {"hidden": [], "init": "probe"}, "identity": {"probe": "{}"},
        "training": {"freeze_until": None, "augment": "flip", "lr": None, "epochs": 1, "seed": 0},
    }  # fmt: skip


def small_evaluation():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    y = np.array(["a", "b", "b", "b"])
    return score_predictions(y, probabilities, ["a", "b"], np.arange(4))
