"""Conclusions from the rows of a sweep: verdicts with their evidence, and the next commands.

All differences are between predictions for the same images.

References
----------
.. [1] The four cases: A. Karpathy, "Transfer Learning", notes of Stanford's course
   CS231n. https://cs231n.github.io/transfer-learning/
.. [2] O. J. Dunn, "Multiple Comparisons Among Means", JASA 56(293), 1961.
   https://doi.org/10.1080/01621459.1961.10482090
"""

import shlex
from collections.abc import Sequence

from featx.dataset.duplicates import DuplicateSettings
from featx.extraction import prepare_extraction
from featx.extraction.settings import ImageSettings, NetworkSettings
from featx.fitting import prepare_fit
from featx.fitting.cross_validation import compare
from featx.fitting.learning_curve import LearningPoint
from featx.flags import flags_of
from featx.layers import activation_shape
from featx.metrics import Score
from featx.recipe import size_text
from featx.secrets import without_secrets
from featx.signatures import values_of
from featx.tables import table_name
from featx.workflows.sweeping.prepare import POOL_LAYERS, Candidate
from featx.workflows.sweeping.results import SweepRow, Verdict
from featx.workflows.sweeping.settings import SweepSettings

__all__ = [
    "cheapest_not_worse",
    "domain_verdict",
    "more_images_verdict",
    "next_commands",
]

_LAST = POOL_LAYERS[-1]
# Pixels on the shorter side. benchmarks/README.md, "The last layer by the size of the images".
_SMALLEST_SIZE = 160


def cheapest_not_worse(rows: Sequence[SweepRow], best: SweepRow) -> SweepRow:
    """Return the cheapest row whose accuracy is not significantly worse than the best.

    The interval of each difference is that of one comparison. The best row was chosen by its
    accuracy, so the differences from it are too large rather than too small, and the intervals
    leave out too many rows rather than too few. An adjustment for the number of rows would widen
    the intervals, and a row that is really worse would be returned more often.

    Parameters
    ----------
    rows : sequence of SweepRow
        The cheapest first.
    best : SweepRow
        One of them.
    """
    for row in rows:
        gain = compare(best.held_out, row.held_out)
        # Without an interval, nothing is known about the difference.
        if row is best or (gain.interval is not None and not gain.is_above(0)):
            return row
    return best


def domain_verdict(rows: Sequence[SweepRow]) -> Verdict:
    """Conclude whether the images differ from ImageNet's.

    Late layers describe the objects of ImageNet. If an earlier layer is significantly better,
    at the same size and with average pooling, the images are of another domain [1]_. The best of
    the earlier layers is compared, so the interval of its difference is one of k simultaneous
    intervals, where k is the number of earlier layers: each has a confidence of 1 - 0.05 / k, and
    all of them contain their differences with a probability of at least 95 % [2]_.

    Small images say nothing about their domain. The network was trained at 224 pixels, where the
    last feature map has 7 x 7 positions. Below 160 pixels it has 4 x 4 or fewer, and the last layer
    loses accuracy for images of any kind, ImageNet's included.

    Parameters
    ----------
    rows : sequence of SweepRow
        All rows of the sweep. The largest image size that has the last layer is used.
    """
    pools = {(name,) for name in POOL_LAYERS}
    single = [row for row in rows if row.layers in pools and row.pool == "avg"]
    sizes = {row.size for row in single if row.layers == (_LAST,)}
    claim = "The images differ from ImageNet's"
    if not sizes:
        return _verdict("", claim, f"this needs {_LAST} and an earlier layer with --pool avg")
    size = max(sizes, key=lambda each: each[0] * each[1])
    pixels = size_text(size)
    if min(size) < _SMALLEST_SIZE:
        height, width, _ = activation_shape(_LAST, size)
        evidence = (
            f"at {pixels} pixels {_LAST} has a feature map of only {height} x {width}, which "
            "lowers its accuracy for images of any kind. Use --size "
            f"{_SMALLEST_SIZE} or more to find out"
        )
        return _verdict("", claim, evidence)
    own = [row for row in single if row.size == size]
    last = next(row for row in own if row.layers == (_LAST,))
    earlier = [row for row in own if row is not last]
    best = max(own, key=lambda row: (row.accuracy.value, row is last))
    if best is last:
        evidence = (
            f"at {pixels} pixels with average pooling the last layer, {_LAST}, is the best "
            f"({last.accuracy.value:.3f}), as it is for images like ImageNet's"
        )
        return _verdict("", claim, evidence)
    evidence = (
        f"at {pixels} pixels with average pooling, {best.layers[0]} has accuracy "
        f"{best.accuracy.value:.3f} and {_LAST} {last.accuracy.value:.3f}"
    )
    gain = compare(best.held_out, last.held_out, confidence=1 - 0.05 / len(earlier))
    return _verdict("different", claim, evidence, gain, n_compared=len(earlier))


def more_images_verdict(points: Sequence[LearningPoint]) -> Verdict:
    """Conclude from the last two points of a learning curve whether more images would help.

    Parameters
    ----------
    points : sequence of LearningPoint
        In the order of the number of images, of candidates that were not chosen by the accuracy
        of these points.
    """
    if len(points) < 2:
        return Verdict("undecided", "There are too few images for a learning curve.")
    before, last = points[-2], points[-1]
    evidence = (
        f"from {before.n_train} to {last.n_train} training images, accuracy went from "
        f"{before.accuracy.value:.3f} to {last.accuracy.value:.3f}"
    )
    gain = compare(last.predictions, before.predictions)
    return _verdict("more", "More images would help", evidence, gain)


def _verdict(
    word: str, claim: str, evidence: str, gain: Score | None = None, *, n_compared: int = 1
) -> Verdict:
    """Return the claim if the gain is significant; otherwise it is undecided."""
    if gain is not None:
        evidence += f" ({_interval(gain, n_compared)})"
        if gain.is_above(0):
            return Verdict(word, f"{claim}: {evidence}.", gain)
    text = f"Undecided whether {claim[0].lower()}{claim[1:]}: {evidence}."
    return Verdict("undecided", text, gain)


def _interval(gain: Score, n_compared: int) -> str:
    """Return a difference with its interval, or the reason why it has none."""
    if gain.interval is None:
        return f"{gain.value:+.3f}, without an interval, because all images are of one group"
    adjusted = "" if n_compared == 1 else f" adjusted for {n_compared} layers"
    return f"{gain.value:+.3f}, 95 % interval{adjusted} {gain.ends('+.3f')}"


def next_commands(settings: SweepSettings, candidate: Candidate) -> tuple[str, ...]:
    """Return commands that extract a candidate's codes, fit on them, and fine-tune the network.

    Parameters
    ----------
    settings : SweepSettings
        Settings of the sweep.
    candidate : Candidate
        The best candidate.
    """
    size = size_text(candidate.size)
    shared = values_of(settings, ImageSettings, NetworkSettings)
    images = (
        []
        if settings.manifest is not None
        else [shlex.quote(without_secrets(str(settings.images or "data")))]
    )
    views = {name: shared.pop(name) for name in ("crops", "flip")}
    del shared["images"], shared["device"], shared["prune"]
    if settings.manifest is not None:
        shared["manifest"] = table_name(settings.manifest)
    network = " ".join([*images, *flags_of(shared, prepare_extraction)])
    codes = {
        "layer": candidate.layers,
        "pool": candidate.pool,
        "scale" if settings.scale else "size": size,
    }
    extract = " ".join([network, *flags_of(codes), *flags_of(views, prepare_extraction)])
    fitted = ("clf", "normalise", "class_weight")
    grouping = flags_of(values_of(settings, DuplicateSettings), prepare_fit)
    fit = " ".join([*flags_of({name: getattr(settings, name) for name in fitted}), *grouping])
    tuned = network.replace("--weights", "--init")
    return (
        f"featx extract {extract} -o best.h5",
        f"featx fit best.h5 {fit} -o best.skops",
        " ".join([f"featx finetune {tuned} --size {size}", *grouping]),
    )
