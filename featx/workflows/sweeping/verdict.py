"""What a sweep says: the best, the cheapest that is as good, and which case the data is in.

Rows with what each predicted come in; findings with their evidence go out, and the
commands that follow from them. Every difference is judged on the same images.

References
----------
.. [1] The four cases: A. Karpathy, "Transfer Learning", notes of Stanford's course
   CS231n. https://cs231n.github.io/transfer-learning/
"""

from collections.abc import Sequence
from dataclasses import dataclass

from featx.extraction import prepare_extraction
from featx.fitting.nested_selection import Judged, LearningPoint, compare
from featx.flags import flags_of
from featx.metrics import Score
from featx.recipe import size_text
from featx.workflows.sweeping.prepare import Candidate, SweepJob

__all__ = ["SweepRow", "Verdict", "cheapest_within", "commands_of", "judge_case", "judge_curve"]

_LAST = "block5_pool"
_POOLS = tuple(f"block{k}_pool" for k in range(1, 6))


@dataclass(frozen=True)
class SweepRow:
    """One candidate, and how good it is.

    Parameters
    ----------
    candidate : Candidate
        Which codes.
    width : int
        Numbers of a code.
    accuracy, balanced_accuracy : Score
        On images held out.
    bytes_per_image : float
        What a code takes on the disk.
    seconds_per_image : float
        What it costs: of the pass, the share that the arithmetic gives its layer.
    judged : Judged
        What was predicted.
    """

    candidate: Candidate
    width: int
    accuracy: Score
    balanced_accuracy: Score
    bytes_per_image: float
    seconds_per_image: float
    judged: Judged

    @property
    def layers(self) -> tuple[str, ...]:
        """Of the candidate."""
        return self.candidate.layers

    @property
    def pool(self) -> str:
        """Of the candidate."""
        return self.candidate.pool

    @property
    def size(self) -> tuple[int, int]:
        """Of the candidate."""
        return self.candidate.size


@dataclass(frozen=True)
class Verdict:
    """One finding in words, with its evidence.

    Parameters
    ----------
    word : str
        Short, for programs: as "different", "undecided" or "more".
    text : str
        For people.
    difference : Score or None
        What it rests on, with its interval.
    """

    word: str
    text: str
    difference: Score | None = None


def cheapest_within(rows: Sequence[SweepRow], best: SweepRow) -> SweepRow:
    """Return the cheapest candidate whose accuracy cannot be told from the best one's.

    Parameters
    ----------
    rows : sequence of SweepRow
        The cheapest first.
    best : SweepRow
        One of them.
    """
    for row in rows:
        if row is best or compare(best.judged, row.judged).low <= 0:
            return row
    return best


def judge_case(rows: Sequence[SweepRow]) -> Verdict:
    """Say whether the images are different from ImageNet's, as far as layers tell.

    Late layers know ImageNet's objects. Where an earlier one serves better, at
    the same size and pooling (average), the images are of another kind [1]_.

    Parameters
    ----------
    rows : sequence of SweepRow
        Of all layers.
    """
    single = [r for r in rows if len(r.layers) == 1 and r.layers[0] in _POOLS and r.pool == "avg"]
    sizes = {row.size for row in single if row.layers == (_LAST,)}
    if not sizes:
        return Verdict(
            "undecided",
            "Whether the images are different from ImageNet's cannot be told: that takes "
            f"{_LAST} and an earlier layer, both averaged.",
        )
    size = max(sizes, key=lambda each: each[0] * each[1])
    own = [row for row in single if row.size == size]
    last = next(row for row in own if row.layers == (_LAST,))
    best = max(own, key=lambda row: (row.accuracy.value, row is last))
    if best is last:
        return Verdict(
            "undecided",
            f"Undecided whether the images are different from ImageNet's: of the averaged layers "
            f"{_LAST}, the last one, is the best ({last.accuracy.value:.3f}), as it is for images "
            "like ImageNet's.",
        )
    gain = compare(best.judged, last.judged)
    found = (
        f"averaged, {best.layers[0]} reaches {best.accuracy.value:.3f} and {_LAST} "
        f"{last.accuracy.value:.3f}: {_interval(gain)}"
    )
    if gain.low > 0:
        return Verdict("different", f"The images are different from ImageNet's: {found}.", gain)
    return Verdict(
        "undecided",
        f"Undecided whether the images are different from ImageNet's: {found}.",
        gain,
    )


def judge_curve(points: Sequence[LearningPoint]) -> Verdict:
    """Say whether more images would pay, as far as the last doubling tells.

    Parameters
    ----------
    points : sequence of LearningPoint
        By rising share.
    """
    if len(points) < 2:
        return Verdict("undecided", "Too few images for a learning curve.")
    before, last = points[-2], points[-1]
    gain = compare(last.judged, before.judged)
    found = (
        f"from {before.n_train} to {last.n_train} images to learn from, accuracy went from "
        f"{before.accuracy.value:.3f} to {last.accuracy.value:.3f}: {_interval(gain)}"
    )
    if gain.low > 0:
        return Verdict("more", f"More images would help: {found}.", gain)
    return Verdict("undecided", f"Undecided whether more images would help: {found}.", gain)


def commands_of(job: SweepJob, candidate: Candidate) -> tuple[str, ...]:
    """Return what to type next: codes, a fit on them, and a network that goes on learning."""
    size, fit = size_text(candidate.size), job.fit
    codes = {
        "layer": candidate.layers,
        "pool": candidate.pool,
        "scale" if job.scaled else "size": size,
    }
    flags = [job.flags, *flags_of(codes), *flags_of(job.views, prepare_extraction)]
    fitting = flags_of({name: fit[name] for name in ("clf", "normalise", "class_weight")})
    return (
        f"featx extract {' '.join(flags)} -o best.h5",
        f"featx fit best.h5 {' '.join(fitting)} -o best.skops",
        f"featx finetune {job.flags.replace('--weights', '--init')} --size {size}",
    )


def _interval(gain: Score) -> str:
    return f"{gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f} with 95 % confidence"
