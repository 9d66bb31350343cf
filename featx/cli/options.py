"""The options that verbs share, those of an extraction before all.

Options come in as the user typed them; settings as functions take them go out, and an
extraction that was checked, with the lines that say what it will make.
"""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.console import gigabytes, say
from featx.cli.layers import print_layers
from featx.errors import OptionError
from featx.flags import flags_of
from featx.layers import deepest, layers_up_to, weight_shapes
from featx.text import counted

if TYPE_CHECKING:
    from featx.cluster import Cluster
    from featx.extraction import BatchSize, ExtractionJob

__all__ = [
    "BatchSizeText",
    "ClassWeight",
    "Clf",
    "ClusterName",
    "Crops",
    "Device",
    "DeviceOrAll",
    "Flip",
    "Folder",
    "Folds",
    "Group",
    "Images",
    "JpegText",
    "Layers",
    "Manifest",
    "MaxPixels",
    "Normalise",
    "PrecisionText",
    "PreprocessText",
    "Recipe",
    "Rename",
    "ResizeText",
    "Scales",
    "ScalesJoinText",
    "Seed",
    "Split",
    "Store",
    "Weights",
    "batch_size",
    "extraction_job",
    "on_cluster",
    "place",
    "renames",
]

Images = Annotated[
    str | None,
    typer.Argument(
        help="A folder, archive or URL of images, of class folders, or of train/, val/ and test/.",
        show_default="data",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="LAYER", help="Layer to take codes from; may be repeated."),
]
ResizeText = Annotated[
    str, typer.Option(metavar="squash|crop|pad", help="How an image gets there.")
]
JpegText = Annotated[
    str,
    typer.Option(metavar="reduced|full", help="Decode JPEGs that are much larger at less size."),
]
Weights = Annotated[
    str, typer.Option(metavar="bundled|imagenet|FILE|random:SEED", help="Of the network.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Layer OLD of the weights file is VGG19's NEW; may be repeated.",
    ),
]
PreprocessText = Annotated[
    str,
    typer.Option(
        metavar="caffe|unit",
        help="BGR minus ImageNet's mean, as VGG19 was trained, or RGB/255.",
    ),
]
PrecisionText = Annotated[
    str, typer.Option(metavar="float32|tf32|bfloat16", help="Arithmetic of the network.")
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|gpu|gpu:N", help="Where the network runs.")]
DeviceOrAll = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|gpu|gpu:N|gpu:all",
        help="Where the network runs; gpu:all is a process for each GPU.",
    ),
]
BatchSizeText = Annotated[
    str, typer.Option("--batch-size", metavar="auto|N", help="Images at once.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="fast|best|texture|vgg-paper", help="Settings under a name; others win over it."
    ),
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Codes: the mean of an image's and its mirror image's.")
]
Crops = Annotated[
    int,
    typer.Option(metavar="5|10", help="Codes: the mean of corners and middle, 10 mirrored too."),
]
Scales = Annotated[
    list[int] | None,
    typer.Option(
        metavar="PIXELS", help="Shorter side of the whole image, instead of --size; may repeat."
    ),
]
ScalesJoinText = Annotated[
    str, typer.Option(metavar="mean|stack", help="What becomes of the codes of several scales.")
]
MaxPixels = Annotated[int, typer.Option(metavar="N", help="Refuse images of more pixels.")]
Manifest = Annotated[
    Path | None,
    typer.Option(help="A CSV with path and any of label, split, group, instead of IMAGES."),
]
Group = Annotated[
    str | None, typer.Option(help="Regular expression that finds the group in the path.")
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="local:N|tcp://HOST:PORT|file:PATH",
        help="Work on Dask's workers, which share the file system.",
    ),
]
Store = Annotated[Path, typer.Option("--output", "-o", help="The store.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="A folder.")]
Split = Annotated[
    str | None, typer.Option(metavar="train|val|test", help="Only the images of this split.")
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Clf = Annotated[
    str,
    typer.Option(
        metavar="CLASSIFIER",
        help="logistic, ridge, linear-svm, svm-rbf, knn, centroid; on narrow codes lda, sgd, "
        "logistic-l1, hist-gradient-boosting; or auto.",
    ),
]
Normalise = Annotated[
    str,
    typer.Option(
        "--normalise",
        "--normalize",
        metavar="l2|centre|sqrt-l2|none|auto",
        help="What rows pass through first.",
    ),
]
ClassWeight = Annotated[
    str | None, typer.Option(metavar="balanced", help="Let small classes count as much.")
]
Folds = Annotated[int, typer.Option(metavar="N", help="Without splits: scored folds.")]


def extraction_job(
    context: typer.Context,
    images: str | None,
    recipe: str | None,
    *,
    quiet: bool,
    **typed: Any,
) -> "ExtractionJob":
    """Check what `extract` or `plan` was given, and say what it will make.

    Parameters
    ----------
    context : Context
        Of the verb; it knows what was typed.
    images : str, optional
        Where they are.
    recipe : str, optional
        Name of settings, over which those that were typed win.
    quiet : bool
        Whether to say nothing.
    **typed
        All other settings of `prepare_extraction`, as the command line has them.

    Raises
    ------
    OptionError
        A setting that cannot be.
    Exit
        There is no layer: they were listed.
    """
    from featx.extraction import prepare_extraction

    given = _with_recipe(context, recipe, typed, quiet=quiet)
    if not given["layer"]:
        _list_layers(context, images, typed["size"], typed["pool"], typed["dtype"])
        raise typer.Exit(2)
    given["scale"] = given["scale"] or ()
    given["rename"] = renames(given["rename"])
    given["batch_size"] = batch_size(given["batch_size"])
    job = prepare_extraction(images, **given, show_download=not quiet)
    for line in _job_lines(job):
        say(line, quiet=quiet)
    return job


def _list_layers(
    context: typer.Context, images: str | None, size: str, pool: str, dtype: str
) -> None:
    """List all layers, and say how to name one."""
    from featx.recipe import image_size

    print_layers(image_size(size), pool, dtype)
    named = "" if images is None else f" {shlex.quote(images)}"
    verb = context.info_name
    say(f"No --layer was given. Choose one: featx {verb}{named} --layer block2_pool", quiet=False)


def _with_recipe(
    context: typer.Context, name: str | None, given: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    """Return settings with those of a named recipe, where the user typed none.

    Raises
    ------
    OptionError
        There is no recipe of that name.
    """
    if name is None:
        return {**given}
    from featx.extraction import find_preset

    # By its name: typer has this kind from click, or from a copy of its own.
    sources = {setting: context.get_parameter_source(setting) for setting in given}
    untyped = {
        setting for setting, source in sources.items() if source and source.name == "DEFAULT"
    }
    own = {k: value for k, value in find_preset(name).settings.items() if k in untyped}
    say(f"recipe {name}: {' '.join(flags_of(own))}", quiet=quiet)
    return given | own


def batch_size(text: str) -> "BatchSize":
    """Read a batch size.

    Raises
    ------
    OptionError
        It is neither "auto" nor a number.
    """
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    message = f"No such batch size: {text}. Expected --batch-size auto, or 1 and more."
    raise OptionError(message)


def place(device: str, cluster: str | None) -> tuple[str, str | None]:
    """Return device and cluster; several GPUs are a cluster of this machine.

    Raises
    ------
    OptionError
        Both a cluster and all GPUs of this machine are asked for.
    """
    if device != "gpu:all":
        return device, cluster
    if cluster is not None:
        message = (
            f"--device gpu:all is a cluster of this machine, and --cluster {cluster} another one. "
            "Leave out one of them."
        )
        raise OptionError(message)
    from featx.network import count_gpus

    n_gpus = count_gpus()
    return "gpu", f"gpus:{n_gpus}" if n_gpus > 1 else None


@contextmanager
def on_cluster(name: str | None, *, quiet: bool) -> Iterator["Cluster | None"]:
    """Connect to a cluster, if one is named, and say where it can be watched."""
    if name is None:
        yield None
        return
    from featx.cluster import connected

    with connected(name, lambda text: say(text, quiet=quiet)) as cluster:
        n_workers = len(cluster.workers)
        say(
            f"cluster {name}: {counted(n_workers, 'worker')}, dashboard {cluster.dashboard}",
            quiet=quiet,
        )
        yield cluster


def renames(texts: list[str] | None) -> dict[str, str]:
    """Read renames; the last = parts them, since no layer of VGG19 has one in its name.

    Raises
    ------
    OptionError
        One is not OLD=NEW, or two give one OLD different names.

    Examples
    --------
    >>> renames(["conv2d_1=block1_conv1", "a=b=block1_conv2"])
    {'conv2d_1': 'block1_conv1', 'a=b': 'block1_conv2'}
    """
    found: dict[str, str] = {}
    for text in texts or ():
        old, _, new = text.rpartition("=")
        if not old or not new:
            message = (
                f"No such rename: {text}. Expected --rename OLD=NEW, a layer of the weights file "
                "and the layer of VGG19 that it is, such as conv2d_1=block1_conv2."
            )
            raise OptionError(message)
        if found.setdefault(old, new) != new:
            message = (
                f"One layer cannot be two: --rename {old}={found[old]} and --rename {text}. Leave "
                "one of them out."
            )
            raise OptionError(message)
    return found


def _job_lines(job: "ExtractionJob") -> list[str]:
    """Say what will be made, before it is."""
    from featx.images import as_typed

    records, recipe, rest = job.listing.records, job.recipe, job.remaining
    splits = {s: sum(r.split == s for r in records) for s in ("train", "val", "test")}
    counts = [f"{s} {n}" for s, n in splits.items() if n]
    n_classes = len({r.label for r in records if r.label is not None})
    counts.append(counted(n_classes, "class", "classes") if n_classes else "no labels")
    groups = {r.group for r in records if r.group is not None}
    if groups:
        counts.append(counted(len(groups), "group"))
    lines = [
        f"{counted(len(records), 'image')} in {as_typed(job.listing.root)} ({', '.join(counts)})"
    ]
    lines += [f"note: {note}" for note in job.listing.notes]
    for name in recipe.layers:
        shape = recipe.code_shape(name)
        places = f"{'x'.join(map(str, shape))} = " if len(shape) > 1 else ""
        lines.append(f"{name}: {places}{recipe.code_size(name):,} numbers an image, {recipe.dtype}")
    free = shutil.disk_usage(job.output.absolute().parent).free
    if not rest.resumes:
        lines.append(f"{rest.target}: {gigabytes(job.new_bytes)} of disk ({gigabytes(free)} free)")
    lines += _earlier_lines(job)
    n_layers = sum(weight_shapes(x.name) is not None for x in layers_up_to(deepest(recipe.layers)))
    found = counted(n_layers, "layer", "layers")
    if n_layers > 1:
        found = f"all {found}"
    if job.source.path is None:
        found += " made"
    else:
        found += f" found, {'its shape is' if n_layers == 1 else 'their shapes are'} right"
    if job.source.rename:
        found += f", {len(job.source.rename)} renamed"
    lines.append(f"weights {job.source.spec} ({job.source.identity[:12]}): {found}")
    return lines


def _earlier_lines(job: "ExtractionJob") -> list[str]:
    """Say what of an earlier run is kept."""
    rest, lines = job.remaining, []
    if rest.resumes:
        done = f"{rest.n_kept:,} of {counted(job.n_images, 'image is', 'images are')} done"
        lines.append(f"going on with {rest.target}: {done}")
    if rest.n_edited:
        lines.append(
            counted(rest.n_edited, "image was", "images were") + " edited since: read anew"
        )
    if rest.copied:
        lines.append(
            counted(len(rest.copied), "image is", "images are")
            + " copied from the store that is there"
        )
    if rest.extended:
        lines.append(
            counted(
                len(rest.extended),
                "image gets the layers that it lacks",
                "images get the layers that they lack",
            )
        )
    if rest.n_dropped:
        lines.append(
            counted(rest.n_dropped, "image of the store is", "images of the store are")
            + " not in the list, and left out now"
        )
    return lines
