"""The advice that follows from the comparison of a tuned network with its linear probe."""

from collections.abc import Mapping

from featx.metrics import Score

__all__ = ["advice_of"]


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
    interval = f"95 % interval {gain.ends('+.3f')}"
    if gain.is_above(0):
        return (
            f"Use the fine-tuned network: its accuracy minus that of the linear probe is "
            f"{gain.value:+.3f} ({interval})."
        )
    change = f"Fine-tuning changed the accuracy by {gain.value:+.3f} ({interval})"
    if gain.is_below(0):
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
