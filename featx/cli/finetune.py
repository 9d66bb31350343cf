"""`featx finetune`: from images to a fine-tuned network, compared with its linear probe."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.console import (
    duration,
    print_json,
    print_table,
    progress_bar,
    say,
    say_notes,
    show,
    start_backend,
    stoppable,
)
from featx.cli.options import AsJson, FinetuneOptions, Quiet
from featx.text import counted

if TYPE_CHECKING:
    from featx.finetuning.history import EpochRecord
    from featx.workflows import Finetuned

_NAMES = {
    "majority": "majority class",
    "probe": "linear probe (featx fit)",
    "tuned": "fine-tuned network",
    "fit_on_tuned": "featx fit on fine-tuned codes",
}


def command(
    options: FinetuneOptions,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events to DIR/tensorboard.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the network and compare it with its linear probe.

    The head starts as the classifier that featx fit finds (the linear probe), so the network
    is as accurate as the probe before the first epoch. Both are compared on a test set that
    neither has seen. If a run was stopped, run the same command again to resume it.
    """
    from featx.finetuning.history import TensorBoardLog
    from featx.workflows import FinetuneProgress, prepare_finetune, run_finetune

    job = prepare_finetune(**options.as_settings())
    training = job.settings
    until = training.freeze_until
    frozen = "no layer frozen" if until == "none" else f"layers up to {until} frozen"
    say(
        f"{counted(job.extraction.n_images, 'image')} in {job.extraction.listing.root}; VGG19 up "
        f"to {job.cut}, {frozen}; {training.optimizer}, learning rate {training.rate:g}",
        quiet=quiet,
    )
    say_notes(job.notes, quiet=quiet)
    say(f"device {start_backend(options.device)[1]}", quiet=quiet)
    events = TensorBoardLog(options.output / "tensorboard") if tensorboard else None
    show = _epoch_lines(quiet)

    def epoch(found: "EpochRecord", most: int) -> None:
        show(found, most)
        if events is not None:
            events.add(found)

    with progress_bar("images", quiet=quiet) as images_done, stoppable(options.output):
        progress = FinetuneProgress(
            stage=lambda text: say(text, quiet=quiet), images=images_done, epoch=epoch
        )
        done = run_finetune(dataclasses.replace(job, progress=progress))
    if as_json:
        print_json(done.facts)
        return
    _print(done, printed=job.notes, quiet=quiet)


def _epoch_lines(quiet: bool) -> Callable[["EpochRecord", int], None]:
    """Return a function that prints a line for each epoch."""

    def show(epoch: "EpochRecord", most: int) -> None:
        if epoch.loss is None or epoch.accuracy is None:
            say(
                "epoch      loss  accuracy  stopping loss  stopping accuracy  images/s  left",
                quiet=quiet,
            )
            trained = f"{'':8}  {'':8}"
        else:
            trained = f"{epoch.loss:8.4f}  {epoch.accuracy:8.3f}"
        left = duration((most - epoch.epoch) * epoch.seconds) if epoch.epoch else ""
        speed = f"{epoch.images_per_second:8.1f}" if epoch.epoch else f"{'':8}"
        say(
            f"{epoch.epoch:2} of {most:<3} {trained}  {epoch.stopping_loss:13.4f}  "
            f"{epoch.stopping_accuracy:17.3f}  {speed}  {left}",
            quiet=quiet,
        )

    return show


def _print(done: "Finetuned", *, printed: Sequence[str], quiet: bool) -> None:
    facts = done.facts
    say_notes([note for note in facts["notes"] if note not in printed], quiet=quiet)
    say(f"{facts['ended']}; best: epoch {facts['best_epoch']}", quiet=quiet)
    split = facts["split"]
    show(f"accuracy on {counted(split['test'], 'test image')} ({split['test_from']})")
    print_table(
        ("model", "accuracy", "95 % interval"),
        [(_NAMES[name], f"{score.value:.3f}", score.ends()) for name, score in done.scores.items()],
    )
    show(done.advice)
    show(f"{done.folder}: tuned.keras, tuned.weights.h5, run.json, history.csv")
    say(f"Next: featx predict IMAGES --model {done.folder}/tuned.keras", quiet=quiet)
    say(f"      featx extract --weights {done.folder}/tuned.weights.h5 --layer NAME", quiet=quiet)
