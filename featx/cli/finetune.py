"""`featx finetune`: images to a tuned network, and what it is worth beside its probe."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli import options
from featx.cli.console import (
    AsJson,
    Overwrite,
    Quiet,
    duration,
    print_json,
    print_table,
    progress_bar,
    say,
    say_notes,
    start_backend,
    stoppable,
)
from featx.text import counted

if TYPE_CHECKING:
    from featx.finetuning.history import EpochRecord
    from featx.workflows.finetuning import Finetuned

NAME = "finetune"

_NAMES = {
    "majority": "majority class",
    "probe": "probe (featx fit)",
    "tuned": "tuned network",
    "fit_on_tuned": "featx fit on tuned codes",
}


def command(
    images: options.Images = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Where the network is cut.", show_default="block5_pool"),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="none|avg|max|avg+max|grid:N",
            help="What becomes of a map.",
            show_default="avg",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="224|HxW", help="Image size for the network.", show_default="224"),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="bundled|imagenet|FILE|random",
            help="Weights to begin with.",
            show_default="bundled",
        ),
    ] = None,
    rename: options.Rename = None,
    freeze_until: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER|none",
            help="The last layer that keeps its weights.",
            show_default="all but the last block; none from random",
        ),
    ] = None,
    clf: Annotated[
        str | None,
        typer.Option(
            metavar="logistic|ridge|linear-svm", help="The probe.", show_default="logistic"
        ),
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Use the recipe and classifier of this model."),
    ] = None,
    head: Annotated[
        str, typer.Option(metavar="linear|mlp:N,N", help="What stands behind the cut.")
    ] = "linear",
    head_init: Annotated[
        str | None,
        typer.Option(
            metavar="probe|random",
            help="What the head begins as.",
            show_default="probe; random for mlp",
        ),
    ] = None,
    dropout: Annotated[float, typer.Option(metavar="P", help="Before the head's layers.")] = 0.0,
    augment: Annotated[
        str, typer.Option(metavar="none|flip|lecture|strong", help="Changes of training images.")
    ] = "flip",
    cache: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Keep activations of the frozen layers: 0 of images as they are, else of K "
            "augmented copies.",
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(metavar="adamw|sgd", help="SGD has momentum 0.9.")
    ] = "adamw",
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Of the head.", show_default="1e-4; 1e-3 for sgd"),
    ] = None,
    block_decay: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Rate of a block, of the next one's.",
            show_default="0.5; 1 from random",
        ),
    ] = None,
    weight_decay: Annotated[float, typer.Option(metavar="F", help="Of kernels.")] = 1e-4,
    schedule: Annotated[
        str, typer.Option(metavar="constant|cosine|plateau|step", help="Of the rate.")
    ] = "cosine",
    gradual: Annotated[
        bool, typer.Option("--gradual", help="Thaw block by block, an epoch apart.")
    ] = False,
    epochs: Annotated[int, typer.Option(metavar="N", help="At most.")] = 20,
    patience: Annotated[int, typer.Option(metavar="N", help="Epochs without gain.")] = 5,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Images a step: 32, or N. As many at once as memory holds, which changes nothing.",
        ),
    ] = "auto",
    class_weight: options.ClassWeight = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="caffe|unit",
            help="BGR minus ImageNet's mean, or RGB/255.",
            show_default="caffe",
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="squash|crop|pad", help="How an image gets there.", show_default="squash"
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="float32|tf32|bfloat16", help="Of the network.", show_default="float32"
        ),
    ] = None,
    device: options.Device = "auto",
    manifest: options.Manifest = None,
    group: options.Group = None,
    output: options.Folder = Path("tuned"),
    overwrite: Overwrite = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events into DIR/tensorboard.")
    ] = False,
    seed: options.Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune the network, and compare it with its probe.

    The head begins as the classifier that `featx fit` finds (the probe), so that
    epoch 0 is as good as that. A run that was stopped goes on by the same
    command. All is compared on images that nothing has seen.
    """
    from featx.workflows.finetuning import FinetuneProgress, prepare_finetune, run_finetune

    settings: dict[str, Any] = {
        "layer": layer,
        "pool": pool,
        "size": size,
        "init": init,
        "rename": options.renames(rename),
        "preprocess": preprocess,
        "resize": resize,
        "precision": precision,
        "device": device,
        "clf": clf,
        "from_model": from_model,
        "head": head,
        "head_init": head_init,
        "cache": cache,
        "manifest": manifest,
        "group": group,
        "output": output,
        "overwrite": overwrite,
        "freeze_until": freeze_until,
        "augment": augment,
        "dropout": dropout,
        "optimizer": optimizer,
        "lr": lr,
        "block_decay": block_decay,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "gradual": gradual,
        "epochs": epochs,
        "patience": patience,
        "batch_size": options.batch_size(batch_size),
        "class_weight": class_weight,
        "seed": seed,
    }
    job = prepare_finetune(images, **settings)
    tuning = job.settings
    frozen = "nothing" if tuning.freeze_until == "none" else f"all up to {tuning.freeze_until}"
    say(
        f"{counted(job.extraction.n_images, 'image')} in {job.extraction.listing.root}; VGG19 cut "
        f"after {job.cut}, {frozen} frozen; {tuning.optimizer}, rate {tuning.rate:g}",
        quiet=quiet,
    )
    say_notes(job.notes, quiet=quiet)
    _, name = start_backend(device)
    say(f"device {name}", quiet=quiet)
    log = _events(output / "tensorboard") if tensorboard else None
    show = _epochs(quiet)

    def epoch(found: "EpochRecord", most: int) -> None:
        show(found, most)
        if log is not None:
            log(found)

    with progress_bar("images", quiet=quiet) as images_done, stoppable(output):
        progress = FinetuneProgress(
            stage=lambda text: say(text, quiet=quiet), images=images_done, epoch=epoch
        )
        done = run_finetune(dataclasses.replace(job, progress=progress))
    if as_json:
        print_json(done.facts)
        return
    _print(done, said=job.notes, quiet=quiet)


def _events(folder: Path) -> Callable[["EpochRecord"], None]:
    from featx.finetuning.history import TensorBoardLog

    return TensorBoardLog(folder).add


def _epochs(quiet: bool) -> Callable[["EpochRecord", int], None]:
    """Return what says each epoch in a line, as it ends."""

    def show(epoch: "EpochRecord", most: int) -> None:
        if epoch.loss is None or epoch.accuracy is None:
            say("epoch      loss  accuracy  stop loss  stop accuracy  images/s  left", quiet=quiet)
            trained = f"{'':8}  {'':8}"
        else:
            trained = f"{epoch.loss:8.4f}  {epoch.accuracy:8.3f}"
        left = duration((most - epoch.epoch) * epoch.seconds) if epoch.epoch else ""
        speed = f"{epoch.images_per_second:8.1f}" if epoch.epoch else f"{'':8}"
        say(
            f"{epoch.epoch:2} of {most:<3} {trained}  {epoch.stopping_loss:9.4f}  "
            f"{epoch.stopping_accuracy:13.3f}  {speed}  {left}",
            quiet=quiet,
        )

    return show


def _print(done: "Finetuned", *, said: Sequence[str], quiet: bool) -> None:
    facts = done.facts
    say_notes([note for note in facts["notes"] if note not in said], quiet=quiet)
    say(f"{facts['ended']}; best: epoch {facts['best_epoch']}", quiet=quiet)
    split = facts["split"]
    print(f"accuracy on {counted(split['test'], 'test image')} ({split['test_from']})")
    print_table(
        ("what", "accuracy", "95 % interval"),
        [
            (_NAMES[name], f"{score.value:.3f}", f"{score.low:.3f} to {score.high:.3f}")
            for name, score in done.scores.items()
        ],
    )
    print(done.advice)
    print(f"{done.folder}: tuned.keras, tuned.weights.h5, run.json, history.csv")
    say(f"Next: featx predict IMAGES --model {done.folder}/tuned.keras", quiet=quiet)
    say(f"      featx extract --weights {done.folder}/tuned.weights.h5 --layer NAME", quiet=quiet)
