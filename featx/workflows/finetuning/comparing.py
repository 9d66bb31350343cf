"""What a tuned network is worth beside its probe, and what to ship.

Predictions and scores come in; a difference with its interval and a sentence
go out.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featx.fitting import Model
from featx.metrics import Score
from featx.metrics.intervals import paired_difference
from featx.store import Store
from featx.workflows.finetuning.parts import Parts

__all__ = ["advice_of", "gain_of"]


def gain_of(
    logits: NDArray[np.float64], parts: Parts, probe: Model, store: Store, seed: int
) -> Score:
    """Compare a network with its probe, image by image.

    Parameters
    ----------
    logits : ndarray of shape (n, k)
        The network's, of the untouched part.
    parts : Parts
        Which that is.
    probe : Model
        Predicts from the store's codes.
    store : Store
        Of one layer.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Score
        Accuracy of the network less the probe's.
    """
    rows, classes = parts.untouched, np.array(probe.classes)
    (layer,) = store.recipe.layers
    expected = probe.predict_proba(store.flat_codes(layer)[rows]).argmax(axis=1)
    y = parts.y[rows].astype(str)
    return paired_difference(
        classes[logits.argmax(axis=1)] == y, classes[expected] == y, parts.groups[rows], seed
    )


def advice_of(scores: Mapping[str, Score], gain: Score, *, best: int) -> str:
    """Say what to ship: the simpler one, unless the other is better beyond doubt.

    Parameters
    ----------
    scores : mapping of str to Score
        Of "probe" and "fit_on_tuned", at least.
    gain : Score
        What tuning gained over the probe.
    best : int
        The epoch whose weights were kept.
    """
    again = scores["fit_on_tuned"].value - scores["probe"].value
    interval = f"{gain.low:+.3f} to {gain.high:+.3f} with 95 % confidence"
    if gain.low > 0:
        return f"Ship the tuned network: {gain.value:+.3f} in accuracy over its probe, {interval}."
    if gain.high < 0:
        return (
            f"Ship the probe: tuning changed accuracy by {gain.value:+.3f}, {interval}. A smaller "
            "--lr, or more images, may help."
        )
    if best == 0:
        return (
            "Ship the probe: no epoch was better on the images that stop the training, so its "
            "weights were kept. A smaller --lr, or more images, may help."
        )
    return (
        f"Ship the probe, which is simpler: tuning changed accuracy by {gain.value:+.3f}, "
        f"{interval}, and a classifier on the tuned codes by {again:+.3f}. More images would tell."
    )
