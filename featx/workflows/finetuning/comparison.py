"""The comparison of a tuned network with its linear probe, and the advice that follows.

Predictions and scores come in; a difference with its interval and a sentence go out.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from featx.fitting import Model
from featx.metrics import Score
from featx.metrics.intervals import paired_difference
from featx.store import Store
from featx.workflows.finetuning.split import FinetuneSplit

__all__ = ["advice_of", "gain_of"]


def gain_of(
    logits: NDArray[np.float64], split: FinetuneSplit, probe: Model, store: Store, seed: int
) -> Score:
    """Return the accuracy of the network minus that of its probe, on the same images.

    Parameters
    ----------
    logits : ndarray of shape (n, k)
        Logits of the network, of the test set.
    split : FinetuneSplit
        The test set and its labels.
    probe : Model
        The linear probe, which predicts from the store's codes.
    store : Store
        Codes of one layer.
    seed : int
        Random seed of the bootstrap.
    """
    rows, classes = split.test_rows, np.array(probe.classes)
    (layer,) = store.recipe.layers
    by_probe = probe.predict_proba(store.flat_codes(layer)[rows]).argmax(axis=1)
    y = split.y[rows].astype(str)
    return paired_difference(
        classes[logits.argmax(axis=1)] == y, classes[by_probe] == y, split.groups[rows], seed
    )


def advice_of(scores: Mapping[str, Score], gain: Score, *, best: int) -> str:
    """Advise to use the probe, which is simpler, unless the network is significantly better.

    Parameters
    ----------
    scores : mapping of str to Score
        Scores of "probe" and "fit_on_tuned", at least.
    gain : Score
        Accuracy of the network minus that of the probe.
    best : int
        The epoch whose weights were kept.
    """
    interval = f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}"
    if gain.low > 0:
        return (
            f"Use the fine-tuned network: it changed the accuracy of the linear probe by "
            f"{gain.value:+.3f} ({interval})."
        )
    change = f"Fine-tuning changed the accuracy by {gain.value:+.3f} ({interval})"
    if gain.high < 0:
        return f"Use the linear probe. {change}. Try a smaller --lr, or add images."
    if best == 0:
        return (
            "Use the linear probe: no epoch improved the loss on the early-stopping set, so the "
            "initial weights were kept. Try a smaller --lr, or add images."
        )
    again = scores["fit_on_tuned"].value - scores["probe"].value
    return (
        f"Use the linear probe, which is simpler. {change}, which is not significant; a classifier "
        f"on the fine-tuned codes changed it by {again:+.3f}. Add images to narrow the interval."
    )
