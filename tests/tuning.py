"""Small networks and images for several test files, and for a process that is killed."""

import sys
from pathlib import Path

import numpy as np
from sklearn.preprocessing import normalize

from featx.finetuning.heads import Head, random_head
from featx.finetuning.inputs import Pixels
from featx.finetuning.network import Network
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.trainer import Labels
from featx.finetuning.training import train
from featx.network import WeightsSource, find_device, read_weights
from featx.recipe import Recipe

CLASSES = ("ant", "bee", "cat", "dog", "eel")


def small_recipe(**settings):
    """Return the recipe of VGG19's first two blocks, for 16 pixels."""
    small = {"layers": ("block2_pool",), "size": (16, 16), "preprocess": "unit"}
    return Recipe(**{"weights": "random:0", **small, **settings})


def small_weights(recipe, *, seed=0):
    """Return random weights of featx, with biases that are not zero."""
    source = WeightsSource(recipe.weights, None, recipe.weights)
    rng = np.random.default_rng(seed)
    return {
        name: (kernel, rng.normal(0, 0.05, bias.shape).astype("f4"))
        for name, (kernel, bias) in read_weights(source, recipe.layers).items()
    }


def small_head(recipe, *, hidden=(), normalise="none", seed=0):
    """Return a head with random kernels, biases and mean."""
    rng = np.random.default_rng(seed)
    size = recipe.code_size(recipe.layers[0])
    head = random_head(CLASSES, size, hidden, seed)
    mean = rng.random(size).astype("f4") / size if normalise == "centre" else None
    biases = tuple(rng.normal(0, 0.1, bias.shape).astype("f4") for bias in head.biases)
    return Head(CLASSES, normalise, mean, head.kernels, biases)


def zero_head():
    """Return a head that gives all classes the same probability."""
    head = small_head(small_recipe())
    kernel, bias = (np.zeros_like(array) for array in (head.kernels[0], head.biases[0]))
    return Head(CLASSES, "none", None, (kernel,), (bias,))


def small_network(tuning, recipe=None, head=None):
    """Return an untrained network, the same in every call."""
    recipe = recipe or small_recipe()
    head = head or small_head(recipe)
    return Network(recipe, small_weights(recipe), head, tuning, find_device("cpu"))


def logits_of(head, codes):
    """Return the logits of a head, (n, k), for codes of shape (n, d), in NumPy and float64."""
    x = np.asarray(codes, dtype=np.float64)
    if head.normalise == "sqrt-l2":
        x = np.sign(x) * np.sqrt(np.abs(x))
    if head.normalise != "none":
        x = normalize(x)
    if head.mean is not None:
        x = normalize(x - head.mean)
    for k, (kernel, bias) in enumerate(zip(head.kernels, head.biases, strict=True)):
        x = (np.maximum(x, 0) if k else x) @ kernel.astype(np.float64) + bias
    return x


def vgg_weights(network):
    """Return the current kernel and bias of each layer of VGG19."""
    layers = [layer for layer in network.model.layers if not layer.name.startswith("head_")]
    return {layer.name: layer.get_weights() for layer in layers if layer.weights}


def noise_images(n, *, size=16, seed=0):
    """Return different images of noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def labels_of(numbers, train, stopping=None, weights=None):
    """Return labels; by default the early-stopping set is the training set."""
    return Labels(
        np.asarray(numbers),
        np.ones(len(numbers)) if weights is None else np.asarray(weights, float),
        np.asarray(train),
        np.asarray(train if stopping is None else stopping),
    )


# Settings of runs that are interrupted and resumed, with everything that has a state.
RESUMED = {
    "adamw": TrainingSettings(
        freeze_until="block1_pool",
        augment="strong",
        dropout=0.3,
        lr=1e-3,
        epochs=4,
        patience=99,
        batch_size=4,
        seed=3,
    ),
    "sgd": TrainingSettings(
        freeze_until="block1_pool",
        augment="flip",
        dropout=0.3,
        optimizer="sgd",
        schedule="plateau",
        lr=1e-3,
        epochs=4,
        patience=99,
        batch_size=4,
        seed=3,
    ),
    # Most of its time is spent in epochs.
    "killed": TrainingSettings(
        freeze_until="block1_pool",
        dropout=0.3,
        lr=1e-4,
        epochs=14,
        patience=99,
        batch_size=4,
        gradual=True,
    ),
}


def train_resumed(name, checkpoint, progress=lambda epoch, most: None):
    """Train with one of RESUMED on noise, and resume if the checkpoint exists.

    The early-stopping set has some of the training images with other labels, so "sgd", which
    begins with a head of zeros, never improves.
    """
    tuning = RESUMED[name]
    network = small_network(tuning, head=zero_head() if name == "sgd" else None)
    images, numbers = noise_images(10), np.arange(10) % 5
    trained = train(
        network,
        Pixels(np.concatenate([images, images[:4]])),
        labels_of([*numbers, *(numbers[:4] + 1) % 5], range(10), range(10, 14)),
        tuning,
        checkpoint,  # three steps per epoch, and the last batch is smaller
        identity={"weights": "random:0"},
        progress=progress,
    )
    return network, trained


if __name__ == "__main__":
    train_resumed(
        sys.argv[1],
        Path(sys.argv[2]),
        progress=lambda epoch, most: print(epoch.epoch, flush=True),
    )
