"""Training: steps checked against numerical gradients, early stopping, and resumed runs."""

import dataclasses
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tuning as tuner
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import log_softmax, softmax
from tuning import (
    RESUMED,
    labels_of,
    logits_of,
    noise_images,
    small_head,
    small_network,
    small_recipe,
    small_weights,
    vgg_weights,
    zero_head,
)

from featx.errors import OptionError, StoreError
from featx.finetuning import training
from featx.finetuning.checkpoints import load_checkpoint, save_checkpoint
from featx.finetuning.inputs import Activations, Pixels
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.trainer import choose_micro_batch, logits
from featx.finetuning.training import train
from featx.network import activation_bytes

# Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEAD_ALONE = {"freeze_until": "block2_pool", "augment": "none", "optimizer": "sgd"}


class Watch:
    """A progress function that keeps the weights of every epoch, by path."""

    def __init__(self, network):
        self.network, self.weights, self.epochs = network, [], []

    def __call__(self, epoch, most):
        self.epochs.append(epoch.epoch)
        self.weights.append(all_weights(self.network))


def all_weights(network):
    return {v.path: np.array(v.numpy()) for v in network.model.weights if "seed" not in v.path}


def same_bits(found, expected):
    return found.keys() == expected.keys() and all(
        found[path].tobytes() == expected[path].tobytes() for path in found
    )


def run(tuning, shown, labels, folder, *, network=None, **how):
    """Train a new network; return it, the result and the weights by epoch."""
    network = network or small_network(tuning)
    watch = Watch(network)
    checkpoint = folder / "checkpoint.h5"
    trained = train(
        network, shown, labels, tuning, checkpoint, **{"identity": {}, "progress": watch, **how}
    )
    return network, trained, watch.weights


# Steps


def loss64(images, numbers, weights):
    """Return the mean log loss of two blocks of VGG19 and a head, in NumPy, float64."""
    x = images / 255.0
    for name in ("block1_conv1", "block1_conv2", "pool", "block2_conv1", "block2_conv2", "pool"):
        if name == "pool":
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
            continue
        kernel, bias = weights[name]
        seen = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (1, 2))
        x = np.maximum(np.tensordot(seen, kernel, axes=((3, 4, 5), (2, 0, 1))) + bias, 0)
    kernel, bias = weights["head_logits"]
    found = log_softmax(x.reshape(len(x), -1) @ kernel + bias, axis=1)
    return -found[np.arange(len(x)), numbers].mean()


def derivative64(array, k, loss):
    """Return the derivative of the loss by one weight, as a finite difference."""
    step, number = 1e-6, array.flat[k]
    array.flat[k] = number + step
    above = loss()
    array.flat[k] = number - step
    below = loss()
    array.flat[k] = number
    return (above - below) / (2 * step)


def test_a_step_is_rate_times_scale_times_gradient(tmp_path):
    images, numbers = noise_images(3, size=8), np.array([4, 0, 2])
    tuning = TrainingSettings(
        freeze_until="block1_conv1",
        augment="none",
        optimizer="sgd",  # the first step has no momentum
        schedule="constant",
        lr=1e-4,
        block_decay=0.1,
        weight_decay=0.0,
        epochs=1,
        batch_size=3,
    )
    recipe = small_recipe(size=(8, 8))
    head = small_head(recipe)
    network = small_network(tuning, recipe, head)
    labels = labels_of(numbers, range(3))
    _, trained, weights = run(tuning, Pixels(images), labels, tmp_path, network=network)
    arrays = {**small_weights(recipe), "head_logits": (head.kernels[0], head.biases[0])}
    arrays = {name: [a.astype(float) for a in pair] for name, pair in arrays.items()}

    def loss():
        return loss64(images, numbers, arrays)

    assert trained.history[1].loss == pytest.approx(loss(), rel=1e-5)
    scales = {"block1_conv2": 0.01, "block2_conv1": 0.1, "block2_conv2": 0.1, "head_logits": 1}
    for name, scale in scales.items():
        for array, kind in zip(arrays[name], ("kernel", "bias"), strict=True):
            before, after = (w[f"{name}/{kind}"].astype(float).ravel() for w in weights)
            moved = after - before
            # The largest differences have enough digits in float32.
            for k in np.argsort(-np.abs(moved))[:2]:
                expected = -1e-4 * scale * derivative64(array, k, loss)
                rounding = 4 * float(np.spacing(np.float32(abs(before[k]))))
                assert moved[k] == pytest.approx(expected, rel=0.01, abs=rounding), (name, kind)
                assert abs(expected) > 3 * rounding


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_depends_on_the_rate_and_leaves_biases_out(optimizer, tmp_path):
    images, labels = noise_images(4), labels_of([0, 1, 2, 3], range(4))
    settings = TrainingSettings(
        freeze_until="block1_pool",
        augment="none",
        optimizer=optimizer,
        schedule="constant",
        lr=1e-2,
        block_decay=0.5,
        weight_decay=0.0,
        epochs=1,
        batch_size=4,
    )
    found = []
    for decay in (0.0, 0.3):
        folder = tmp_path / str(decay)
        folder.mkdir()
        tuning = dataclasses.replace(settings, weight_decay=decay)
        found.append(run(tuning, Pixels(images), labels, folder)[2])
    before = found[0][0]
    for path in before:
        difference = found[1][1][path] - found[0][1][path]
        if path.startswith("block1") or path.endswith("bias"):
            assert not difference.any(), path
            continue
        scale = 1 if path.startswith("head") else 0.5
        expected = -0.3 * 1e-2 * scale * before[path]
        np.testing.assert_allclose(difference, expected, rtol=0.01, atol=1e-6)
        assert difference.any()


def test_frozen_layers_do_not_change_and_the_others_do(tmp_path):
    tuning = TrainingSettings(
        freeze_until="block2_conv1", augment="flip", lr=1e-3, epochs=2, batch_size=4
    )
    labels = labels_of(np.arange(8) % 5, range(8))
    network, trained, weights = run(tuning, Pixels(noise_images(8)), labels, tmp_path)
    assert trained.best > 0
    after = all_weights(network)
    for path, before in weights[0].items():
        is_frozen = path.startswith(("block1", "block2_conv1"))
        assert (after[path].tobytes() == before.tobytes()) == is_frozen, path
    given = small_weights(small_recipe())
    for name in ("block1_conv1", "block1_conv2", "block2_conv1"):
        for found, array in zip(vgg_weights(network)[name], given[name], strict=True):
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_blocks_do_not_change_before_they_are_unfrozen(optimizer, tmp_path):
    tuning = TrainingSettings(
        freeze_until="none",
        augment="none",
        optimizer=optimizer,
        gradual=True,
        lr=1e-4,
        weight_decay=0.1,
        epochs=3,
        batch_size=4,
    )
    labels = labels_of(np.arange(8) % 5, range(8))
    _, _, weights = run(tuning, Pixels(noise_images(8)), labels, tmp_path)
    moved = [
        {path.partition("_")[0] for path in now if (now[path] != before[path]).any()}
        for before, now in itertools.pairwise(weights)
    ]
    assert moved == [{"head"}, {"head", "block2"}, {"head", "block2", "block1"}]


def test_a_block_begins_with_steps_of_the_usual_size(tmp_path):
    """AdamW follows the gradients of frozen blocks: its first step is about the rate."""
    tuning = TrainingSettings(
        freeze_until="none",
        augment="none",
        gradual=True,
        schedule="constant",
        weight_decay=0.0,
        lr=1e-5,
        block_decay=0.5,
        epochs=3,
        batch_size=8,
    )
    labels = labels_of(np.arange(8) % 5, range(8))
    _, _, weights = run(tuning, Pixels(noise_images(8)), labels, tmp_path)
    moved = np.abs(weights[3]["block1_conv1/kernel"] - weights[2]["block1_conv1/kernel"])
    # The gradients of the epochs are similar. Without their history the step would be 0.6.
    assert np.median(moved) / (1e-5 * 0.25) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("precision", "rounded"), [("float32", False), ("tf32", True)])
def test_only_tf32_rounds_products(precision, rounded, tmp_path):
    """TensorFlow's switch is set during steps and during scores."""
    import tensorflow as tf

    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    tf.config.experimental.enable_tensor_float_32_execution(not rounded)
    tuning = TrainingSettings(**HEAD_ALONE, epochs=1, batch_size=4)
    network = small_network(tuning, small_recipe(precision=precision))
    seen = []
    for model, name in (
        (network.training_model, "train_on_batch"),
        (network.model, "predict_on_batch"),
    ):
        run_model = getattr(model, name)
        setattr(
            model,
            name,
            lambda *x, call=run_model, **how: seen.append(enabled()) or call(*x, **how),
        )
    run(
        tuning,
        Pixels(noise_images(4)),
        labels_of([0, 1, 2, 3], range(4)),
        tmp_path,
        network=network,
    )
    assert seen == [rounded] * 3  # scores, a step, scores


# Micro-batches


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("size", [1, 3])  # of 8: equal parts, and one that is padded
def test_accumulated_gradients_make_the_same_step(size, optimizer, tmp_path, monkeypatch):
    tuning = TrainingSettings(
        freeze_until="block1_pool", augment="none", optimizer=optimizer, epochs=2, batch_size=8
    )
    tuning = dataclasses.replace(tuning, lr=1e-2 if optimizer == "sgd" else 1e-4)
    # The last batch has two images, so some of its parts are empty.
    images, weights = Pixels(noise_images(10)), np.linspace(0.5, 2, 10)
    labels = labels_of(np.arange(10) % 5, range(10), weights=weights)
    found = []
    for parts in (8, size):
        monkeypatch.setattr(training, "choose_micro_batch", lambda *_, parts=parts, **__: parts)
        folder = tmp_path / str(parts)
        folder.mkdir()
        found.append(run(tuning, images, labels, folder))
    (_, whole, expected), (_, divided, arrays) = found
    for one, two in zip(whole.history[1:], divided.history[1:], strict=True):
        for name in ("rate", "loss", "accuracy", "stopping_loss", "stopping_accuracy"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-4, abs=1e-6)
    for path in expected[-1]:
        moved = np.abs(expected[-1][path] - expected[0][path]).max()
        apart = np.abs(arrays[-1][path] - expected[-1][path])
        # AdamW makes full steps even along gradients that are only rounding errors.
        assert np.median(apart) <= 1e-3 * moved, path
    assert divided.micro_batch == size


class ResourceExhaustedError(Exception):
    """The error of TensorFlow for too little memory."""


def too_small_for(model, n, *, after=0):
    """Let the training fail with more than n images per call, after some calls."""
    trained, calls = model.train_on_batch, itertools.count()

    def train_on_batch(x, *rest, **how):
        if next(calls) >= after and len(x) > n:
            raise ResourceExhaustedError
        return trained(x, *rest, **how)

    model.train_on_batch = train_on_batch


def test_too_little_memory_halves_the_micro_batch(tmp_path, monkeypatch, caplog):
    """The epoch starts over, with the result of a run that had the small size from there on."""
    tuning = dataclasses.replace(RESUMED["adamw"], epochs=3)
    images, labels = Pixels(noise_images(10)), labels_of(np.arange(10) % 5, range(10))
    network = small_network(tuning)
    too_small_for(network.training_model, 1, after=4)  # an epoch has three batches
    for name in ("halved", "stopped"):
        (tmp_path / name).mkdir()
    _, found, weights = run(tuning, images, labels, tmp_path / "halved", network=network)
    assert [record.args for record in caplog.records] == [(4, 2), (2, 1)]

    def stop(epoch, most):
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tuning, images, labels, tmp_path / "stopped", progress=stop)
    monkeypatch.setattr(training, "choose_micro_batch", lambda *_, **__: 1)
    _, expected, arrays = run(tuning, images, labels, tmp_path / "stopped")
    assert (found.micro_batch, expected.micro_batch) == (1, 1)
    assert [e.stopping_loss for e in found.history] == [e.stopping_loss for e in expected.history]
    assert same_bits(weights[-1], arrays[-1])


def test_a_run_is_resumed_with_less_memory(tmp_path, monkeypatch):
    """The state of the optimizer does not depend on the number of parts of a batch."""
    tuning = dataclasses.replace(RESUMED["adamw"], augment="none", dropout=0.0, epochs=3)
    images, labels = Pixels(noise_images(10)), labels_of(np.arange(10) % 5, range(10))

    def stop(epoch, most):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    (tmp_path / "straight").mkdir()
    _, straight, _ = run(tuning, images, labels, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tuning, images, labels, tmp_path, progress=stop)
    monkeypatch.setattr(training, "choose_micro_batch", lambda *_, **__: 2)
    _, found, _ = run(tuning, images, labels, tmp_path)
    assert (found.resumed, found.micro_batch) == (2, 2)
    losses = [epoch.stopping_loss for epoch in straight.history]
    assert [epoch.stopping_loss for epoch in found.history] == pytest.approx(losses, rel=1e-4)


def test_too_little_memory_for_one_image_is_an_error(tmp_path):
    tuning = RESUMED["adamw"]
    network = small_network(tuning)
    too_small_for(network.training_model, 0)
    labels = labels_of([0, 1, 2, 3], range(4))
    with pytest.raises(OptionError, match=r"--size.*--device"):
        run(tuning, Pixels(noise_images(4)), labels, tmp_path, network=network)


class Narrow:
    """A device with little memory."""

    def __init__(self, free):
        self._free = free

    def free_bytes(self):
        return self._free


@pytest.mark.parametrize(
    ("free", "expected"), [(None, 32), (2**40, 32), (20 << 20, 16), (5 << 20, 4), (1, 1)]
)
def test_the_micro_batch_uses_at_most_half_of_the_memory(free, expected):
    """Two blocks at 16 pixels have activations of 64 x 256 and 128 x 64, twice each, and pools."""
    tuning = TrainingSettings(freeze_until="none", batch_size=32)
    network = small_network(tuning)
    network.device = Narrow(free)
    kept = 4 * (2 * 64 * 256 + 64 * 64 + 2 * 128 * 64 + 128 * 16)
    needed = kept + activation_bytes(network.recipe)
    found = choose_micro_batch(network, tuning, activations=False)
    assert found == expected
    if free is not None:
        assert found == 1 or found * needed <= free / 2
        assert found == 32 or 2 * found * needed > free / 2


def test_it_memorises_twenty_images_with_random_labels(tmp_path):
    rng = np.random.default_rng(0)
    images = noise_images(30)
    rows = rng.permutation(30)[:20]  # the labels of the others are not learned
    numbers = rng.permutation(np.arange(30) % 5)
    tuning = TrainingSettings(
        freeze_until="block2_conv1",
        augment="none",
        lr=1e-3,
        schedule="constant",
        epochs=20,
        patience=20,
        batch_size=8,
    )
    labels = labels_of(numbers, rows)
    network, trained, _ = run(tuning, Pixels(images), labels, tmp_path)
    best = trained.history[trained.best]
    assert (best.accuracy, best.stopping_accuracy) == (1, 1)
    assert trained.history[0].stopping_accuracy < 0.6
    found = network.model.predict(images, verbose=0)
    np.testing.assert_array_equal(found[rows].argmax(axis=1), numbers[rows])
    others = np.setdiff1d(np.arange(30), rows)
    assert (found[others].argmax(axis=1) != numbers[others]).any()
    # The last batch of another size is padded.
    np.testing.assert_allclose(
        logits(network, Pixels(images), rows, 7), found[rows], rtol=1e-3, atol=1e-3
    )


def codes_of(n, *, seed=0):
    """Return activations such as those of block 2, which are codes too."""
    return np.random.default_rng(seed).random((n, 4, 4, 128)).astype("f4")


def weighted_loss(head, codes, numbers, weights):
    found = log_softmax(logits_of(head, codes.reshape(len(codes), -1)), axis=1)
    return -np.average(found[np.arange(len(codes)), numbers], weights=weights)


def test_weights_of_a_batch_have_a_sum_of_one_and_padding_has_no_weight(tmp_path):
    numbers, weights = np.array([0, 0, 0, 1, 3]), np.array([0.5, 0.5, 0.5, 2, 7])
    codes, head = codes_of(5), small_head(small_recipe())
    probabilities = softmax(logits_of(head, codes.reshape(5, -1)), axis=1)
    share = (weights / weights.sum())[:, None]
    slope = (share * (probabilities - np.eye(5)[numbers])).sum(axis=0)
    tuning = TrainingSettings(**HEAD_ALONE, lr=1e-2, schedule="constant", weight_decay=0, epochs=1)
    moves = []
    for batch_size, factor in ((5, 1.0), (8, 1.0), (8, 10.0)):
        folder = tmp_path / f"{batch_size}-{factor}"
        folder.mkdir()
        of_batch = dataclasses.replace(tuning, batch_size=batch_size)
        labels = labels_of(numbers, range(5), weights=weights * factor)
        _, trained, found = run(of_batch, Activations(codes), labels, folder)
        history = trained.history
        expected = weighted_loss(head, codes, numbers, weights)
        assert history[1].loss == pytest.approx(expected, rel=1e-5)
        # The early-stopping scores do not use the weights.
        plain = weighted_loss(head, codes, numbers, np.ones(5))
        assert history[0].stopping_loss == pytest.approx(plain, rel=1e-5)
        own = probabilities.argmax(axis=1) == numbers
        assert history[1].accuracy == pytest.approx(np.average(own, weights=weights))
        assert history[0].stopping_accuracy == np.mean(own)
        moved = found[1]["head_logits/bias"] - found[0]["head_logits/bias"]
        np.testing.assert_allclose(moved, -1e-2 * slope, rtol=1e-3, atol=1e-7)
        moves.append(found[1]["head_logits/kernel"])
    for other in moves[1:]:
        np.testing.assert_allclose(other, moves[0], rtol=1e-5, atol=1e-7)


def test_the_loss_of_an_epoch_is_the_mean_of_its_images(tmp_path):
    """Batches of five and two images, with a rate so small that no weight changes."""
    numbers, codes = np.arange(7) % 5, codes_of(7)
    tuning = TrainingSettings(**HEAD_ALONE, lr=1e-20, epochs=1, batch_size=5)
    _, trained, _ = run(tuning, Activations(codes), labels_of(numbers, range(7)), tmp_path)
    expected = weighted_loss(small_head(small_recipe()), codes, numbers, np.ones(7))
    assert trained.history[1].loss == pytest.approx(expected, rel=1e-5)
    assert trained.history[1].accuracy == pytest.approx(trained.history[0].stopping_accuracy)


# Rates


RATES = {  # of eight steps, two per epoch; the first epoch is a warm-up
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1],
    "step": [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01],
    "cosine": [0.5, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060],
    # No epoch improves, so the rate is halved before epoch 3, and again after epoch 4.
    "plateau": [0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.5],
}


@pytest.mark.parametrize("schedule", RATES)
def test_rates_of_every_step(schedule, tmp_path):
    """Codes of zeros have no gradient, so kernels change only by rate times weight decay."""
    decay, rate = 0.25, 0.1
    tuning = TrainingSettings(
        **HEAD_ALONE, schedule=schedule, lr=rate, weight_decay=decay, epochs=4, batch_size=2
    )
    # Training makes the class of the early-stopping image less likely: no epoch improves.
    labels = labels_of([0, 0, 0, 0, 1], range(4), [4])
    codes = np.zeros((5, 4, 4, 128), "f4")
    _, trained, weights = run(tuning, Activations(codes), labels, tmp_path)
    assert trained.best == 0
    assert [epoch.rate for epoch in trained.history] == pytest.approx(
        [0, *(rate * share for share in RATES[schedule][1::2])], rel=1e-5
    )
    shrunk = [w["head_logits/kernel"] / weights[0]["head_logits/kernel"] for w in weights]
    expected = np.cumprod([1 - rate * decay * share for share in RATES[schedule]])[1::2]
    for found, share in zip(shrunk[1:], expected, strict=True):
        np.testing.assert_allclose(found, share, rtol=1e-5)


class Designed(Activations):
    """Activations that are multiplied by a number whenever the early-stopping set is scored."""

    def __init__(self, plain, goodness):
        super().__init__(plain)
        self.goodness = iter(goodness)

    def batch(self, rows, epoch):
        found = super().batch(rows, epoch)
        return found if epoch else found * np.float32(next(self.goodness))


def test_a_plateau_is_two_epochs_without_improvement(tmp_path):
    kernel = np.zeros((2048, 5), "f4")
    kernel[:, 0] = 1 / 2048  # the larger an activation, the likelier is class 0
    head = dataclasses.replace(zero_head(), kernels=(kernel,))
    shown = Designed(np.ones((2, 4, 4, 128), "f4"), [1, 0, 0, 2, 1, 1, 1, 1, 3])
    tuning = TrainingSettings(
        **HEAD_ALONE, schedule="plateau", lr=1e-20, epochs=8, patience=5, batch_size=1
    )
    labels = labels_of([0, 0], [0], [1])
    network = small_network(tuning, head=head)
    _, trained, _ = run(tuning, shown, labels, tmp_path, network=network)
    losses = [np.log(np.exp(x) + 4) - x for x in (1, 0, 0, 2, 1, 1, 1, 1, 3)]
    assert [epoch.stopping_loss for epoch in trained.history] == pytest.approx(losses)
    shares = [0, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert [epoch.rate * 1e20 for epoch in trained.history] == pytest.approx(shares)
    assert trained.best == 8


# The best epoch


def test_a_training_that_never_improves_ends_with_the_weights_of_epoch_0(tmp_path):
    tuning = TrainingSettings(
        freeze_until="block1_pool", augment="none", lr=1e-3, epochs=9, patience=3
    )
    tuning = dataclasses.replace(tuning, batch_size=8)
    numbers = np.arange(8) % 5
    labels = labels_of([*numbers, *(numbers + 1) % 5], range(8), range(8, 16))
    images = np.tile(noise_images(8), (2, 1, 1, 1))
    network, trained, weights = run(
        tuning, Pixels(images), labels, tmp_path, network=small_network(tuning, head=zero_head())
    )
    assert trained.best == 0
    assert "3" in trained.ended
    assert [epoch.epoch for epoch in trained.history] == [0, 1, 2, 3]
    assert trained.history[0].stopping_loss == pytest.approx(np.log(5))
    assert not same_bits(weights[-1], weights[0])
    assert same_bits(all_weights(network), weights[0])
    # Resuming a run that has ended does nothing.
    again, found, epochs = run(tuning, Pixels(images), labels, tmp_path)
    assert epochs == []
    assert found == dataclasses.replace(trained, resumed=3)
    assert same_bits(all_weights(again), weights[0])


def test_the_weights_are_those_with_the_smallest_early_stopping_loss(tmp_path):
    tuning = TrainingSettings(freeze_until="block1_pool", augment="none", optimizer="sgd", lr=1e-2)
    tuning = dataclasses.replace(tuning, epochs=4, batch_size=8)
    labels = labels_of(np.arange(20) % 5, range(20))
    network, trained, weights = run(tuning, Pixels(noise_images(20)), labels, tmp_path)
    losses = [epoch.stopping_loss for epoch in trained.history]
    assert "4" in trained.ended
    assert trained.best == np.argmin(losses)
    assert 0 < trained.best < 4
    assert same_bits(all_weights(network), weights[trained.best])
    _, facts = load_checkpoint(tmp_path / "checkpoint.h5")
    assert facts["best"] == trained.best
    assert facts["ended"] == ""  # the checkpoint may be resumed with more epochs


# Inputs


def test_activations_give_the_same_losses_as_images(tmp_path):
    tuning = TrainingSettings(
        freeze_until="block1_pool", augment="none", lr=1e-3, epochs=3, batch_size=4, dropout=0.2
    )
    images, labels = noise_images(10), labels_of(np.arange(10) % 5, range(7), range(7, 10))
    (tmp_path / "other").mkdir()
    network, trained, _ = run(tuning, Pixels(images), labels, tmp_path)
    start = small_network(tuning).frozen_part
    activations = Activations(start.predict(images.astype("f4"), verbose=0))
    tail, found, _ = run(tuning, activations, labels, tmp_path / "other")
    for name in ("loss", "stopping_loss"):
        of_tail, of_pixels = ([getattr(e, name) for e in t.history[1:]] for t in (found, trained))
        np.testing.assert_allclose(of_tail, of_pixels, atol=1e-4)
    for path, array in all_weights(network).items():
        np.testing.assert_allclose(all_weights(tail)[path], array, atol=1e-4)


def test_epochs_use_the_augmented_copies_in_turn(tmp_path):
    """With a tiny rate each augmented version has its own loss; early stopping uses the images."""
    plain, copies = codes_of(6), [codes_of(6, seed=seed) for seed in (1, 2)]
    tuning = TrainingSettings(**HEAD_ALONE, lr=1e-20, epochs=3, batch_size=6)
    numbers = np.arange(6) % 5
    _, trained, _ = run(tuning, Activations(plain, copies), labels_of(numbers, range(6)), tmp_path)
    head = small_head(small_recipe())
    expected = [
        weighted_loss(head, codes, numbers, np.ones(6))
        for codes in (plain, copies[0], copies[1], copies[0])
    ]
    assert [epoch.loss for epoch in trained.history[1:]] == pytest.approx(expected[1:], rel=1e-5)
    assert {round(epoch.stopping_loss, 4) for epoch in trained.history} == {round(expected[0], 4)}


class Watched(Pixels):
    """Images that count how many batches of an epoch were loaded, and fail after some of them."""

    def __init__(self, pixels, fails_after=99):
        super().__init__(pixels)
        self.counts, self.changed, self.fails_after = Counter(), threading.Condition(), fails_after

    def batch(self, rows, epoch):
        if self.counts[epoch] == self.fails_after:
            raise FileNotFoundError
        with self.changed:
            self.counts[epoch] += 1
            self.changed.notify_all()
        return super().batch(rows, epoch)

    def wait_for(self, epoch, n):
        """Wait until n batches of an epoch are loaded; return how many are."""
        with self.changed:
            self.changed.wait_for(lambda: self.counts[epoch] >= n, timeout=30)
            return self.counts[epoch]


@pytest.mark.parametrize("trains", [True, False])
def test_the_next_batch_is_loaded_while_one_is_computed(trains, tmp_path):
    """Each step waits for the batch after its own, and no batch is loaded any sooner."""
    images = Watched(noise_images(10))
    tuning = dataclasses.replace(RESUMED["adamw"], epochs=1)
    network, epoch, steps = small_network(tuning), int(trains), itertools.count(1)
    model, method = (
        (network.training_model, "train_on_batch")
        if trains
        else (network.model, "predict_on_batch")
    )
    computed, found = getattr(model, method), []

    def compute(*arguments, **how):
        step = next(steps)
        if step <= 3:  # an epoch has three batches, and the early-stopping set too
            found.append(images.wait_for(epoch, min(step + 1, 3)))
        return computed(*arguments, **how)

    setattr(model, method, compute)
    run(tuning, images, labels_of(np.arange(10) % 5, range(10)), tmp_path, network=network)
    assert found == [2, 3, 3]


def test_a_batch_that_cannot_be_loaded_ends_the_training(tmp_path):
    images, n_threads = Watched(noise_images(10), fails_after=2), threading.active_count()
    labels = labels_of(np.arange(10) % 5, range(10), range(4))
    with pytest.raises(FileNotFoundError):
        run(dataclasses.replace(RESUMED["adamw"], epochs=1), images, labels, tmp_path)
    assert threading.active_count() <= n_threads


# Runs that are stopped


def outcome(trained):
    """Return the result of a training without its times."""
    return [
        dataclasses.replace(epoch, seconds=0, images_per_second=0) for epoch in trained.history
    ], (trained.best, trained.ended)


def check_same_run(name, folder, checkpoint, interrupted_after):
    """Resume a run that was stopped, and compare it with one that was not."""
    straight_network, straight = tuner.train_resumed(name, folder / "straight.h5")
    network, trained = tuner.train_resumed(name, checkpoint)
    assert trained.resumed >= interrupted_after
    found, expected = outcome(trained), outcome(straight)
    assert found[1] == expected[1]
    rows = [[dataclasses.astuple(epoch) for epoch in of_run[0]] for of_run in (found, expected)]
    np.testing.assert_allclose(np.array(rows[0], float), np.array(rows[1], float), rtol=1e-5)
    for path, array in all_weights(straight_network).items():
        np.testing.assert_allclose(all_weights(network)[path], array, rtol=1e-5, atol=1e-7)
    for group in ("weights", "best", "optimizer"):
        arrays = [load_checkpoint(path)[0][group] for path in (checkpoint, folder / "straight.h5")]
        for array, other in zip(*arrays, strict=True):
            np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-7)
    return straight


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_stopped_run_is_resumed_with_the_same_result(name, tmp_path):
    def stop(epoch, most):
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.train_resumed(name, tmp_path / "stopped.h5", progress=stop)
    straight = check_same_run(name, tmp_path, tmp_path / "stopped.h5", 3)
    assert len(straight.history) == tuner.RESUMED[name].epochs + 1
    if name == "sgd":  # the rate was halved before the run was stopped
        assert straight.history[3].rate < tuner.RESUMED[name].rate


@pytest.mark.slow
def test_a_killed_run_is_resumed_with_the_same_result(tmp_path):
    checkpoint, seed = tmp_path / "killed.h5", random.SystemRandom().randrange(10**6)
    print("seed", seed)  # pytest shows it if the test fails
    rng = random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, Path(tuner.__file__), "killed", checkpoint],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with process:
        last = rng.randrange(1, 10)
        for line in process.stdout:
            if int(line) == last:
                break
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    check_same_run("killed", tmp_path, checkpoint, last)


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    tuning = TrainingSettings(**HEAD_ALONE, lr=1e-3, epochs=1, batch_size=5)
    shown, labels = Activations(codes_of(5)), labels_of(range(5), range(5))
    identity = {"weights": "random:0", "parts": [1, 2]}
    run(tuning, shown, labels, tmp_path, identity=identity)
    before = (tmp_path / "checkpoint.h5").read_bytes()
    other = dataclasses.replace(tuning, lr=2e-3, batch_size=4)
    words = r"lr is 0\.002, was 0\.001; batch-size is 4, was 5"
    with pytest.raises(OptionError, match=words):
        run(other, shown, labels, tmp_path, identity=identity)
    with pytest.raises(OptionError, match=r"weights is random:1, was random:0"):
        run(tuning, shown, labels, tmp_path, identity=identity | {"weights": "random:1"})
    assert (tmp_path / "checkpoint.h5").read_bytes() == before


# Losses that are not finite


class Broken(Activations):
    """Activations that are NaN in training from epoch 3 on."""

    def batch(self, rows, epoch):
        return super().batch(rows, epoch) * np.float32(np.nan if epoch >= 3 else 1)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    tuning = TrainingSettings(**HEAD_ALONE, lr=1e-4, schedule="constant", epochs=9, batch_size=4)
    labels = labels_of(np.arange(8) % 5, range(8))
    network, trained, weights = run(tuning, Broken(codes_of(8)), labels, tmp_path)
    assert re.search("epoch 3.*epoch 2.*--lr.*0.0001", trained.ended)
    assert [epoch.epoch for epoch in trained.history] == [0, 1, 2]
    assert trained.best == 2
    assert same_bits(all_weights(network), weights[2])
    _, facts = load_checkpoint(tmp_path / "checkpoint.h5")
    assert facts["ended"] == trained.ended
    # The run has ended, so other activations change nothing.
    again, found, epochs = run(tuning, Activations(codes_of(8)), labels, tmp_path)
    assert epochs == []
    assert found == dataclasses.replace(trained, resumed=2)
    assert same_bits(all_weights(again), weights[2])


def test_a_rate_that_is_too_large_ends_with_the_weights_of_epoch_0(tmp_path):
    tuning = TrainingSettings(freeze_until="block1_pool", augment="none", optimizer="sgd", lr=1e30)
    labels = labels_of(np.arange(8) % 5, range(8))
    network, trained, weights = run(tuning, Pixels(noise_images(8)), labels, tmp_path)
    assert re.search(r"epoch 1\b.*--lr.*1e\+30", trained.ended)
    assert len(trained.history) == 1
    assert same_bits(all_weights(network), weights[0])
    assert all(np.isfinite(array).all() for array in all_weights(network).values())


# Checkpoints


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "weights": [rng.random((2, 3)).astype("f4"), np.float32(3)],
        "optimizer": [np.int64(7)] + [np.full(2, k) for k in range(120)],
        "best": [],
    }
    facts = {"ended": "", "history": [{"loss": None, "rate": 0.1}], "identity": {"ä": [1, 2]}}
    save_checkpoint(tmp_path / "c.h5", arrays, facts)
    found, found_facts = load_checkpoint(tmp_path / "c.h5")
    assert found_facts == facts
    assert found.get("best", []) == []
    for name in ("weights", "optimizer"):
        for array, other in zip(found[name], arrays[name], strict=True):
            np.testing.assert_array_equal(array, other)
            assert array.dtype == np.asarray(other).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["c.h5"]


@pytest.mark.parametrize("damage", ["cut", "text", "no facts", "facts"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    import h5py

    path = tmp_path / "c.h5"
    save_checkpoint(path, {"weights": [np.zeros(1000)]}, {"ended": ""})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("weights")
    else:
        with h5py.File(path, "r+") as file:
            del file.attrs["facts"]
            if damage == "facts":
                file.attrs["facts"] = "{"
    with pytest.raises(StoreError, match=r"c\.h5.*--overwrite"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "facts",
    [[], {}, {"best": 5}, {"best": "a"}, {"history": [{}]}, {"training": []}, {"plateau": "x"}],
    ids=str,
)
def test_odd_facts_of_a_checkpoint_are_refused(facts, tmp_path):
    tuning = TrainingSettings(**HEAD_ALONE, epochs=1)
    labels = labels_of(np.arange(8) % 5, range(8))
    run(tuning, Activations(codes_of(8)), labels, tmp_path)
    arrays, known = load_checkpoint(tmp_path / "checkpoint.h5")
    changed = {**known, **facts} if facts else facts
    save_checkpoint(tmp_path / "checkpoint.h5", arrays, changed)
    with pytest.raises(StoreError, match=r"checkpoint\.h5.*--overwrite"):
        run(tuning, Activations(codes_of(8)), labels, tmp_path)


def test_a_checkpoint_that_cannot_be_written_keeps_the_old_one(tmp_path):
    path = tmp_path / "c.h5"
    save_checkpoint(path, {"weights": [np.zeros(3)]}, {"ended": ""})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"weights": [np.ones(3)]}, {"ended": object()})
    arrays, _ = load_checkpoint(path)
    assert not arrays["weights"][0].any()
    assert [each.name for each in tmp_path.iterdir()] == ["c.h5"]
