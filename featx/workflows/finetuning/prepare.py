"""What a fine-tuning will do, checked before an image is read.

What the user asks for comes in, or a bundle that says it; one job goes out. Nothing
runs here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.choices import HeadInit, ProbeClassifier
from featx.errors import FitError, OptionError, RecipeMismatchError
from featx.extraction import ExtractionJob, prepare_extraction
from featx.finetuning.settings import Tuning, hidden_sizes
from featx.fitting import Model, load_model
from featx.layers import find_layer
from featx.outputs import check_folder, made_folder
from featx.recipe import Recipe
from featx.store import open_store
from featx.workflows.heads import head_of

__all__ = ["FinetuneJob", "prepare_finetune"]

_DEFAULTS = {
    "layer": "block5_pool",
    "pool": "avg",
    "size": 224,
    "init": "bundled",
    "rename": None,
    "preprocess": "caffe",
    "resize": "squash",
    "jpeg": "reduced",
    "precision": "float32",
}


@dataclass(frozen=True)
class FinetuneJob:
    """What a fine-tuning will do; `prepare_finetune` makes it, and no image was read yet.

    Parameters
    ----------
    extraction : ExtractionJob
        Of the codes that the probe is fitted on.
    tuning : Tuning
        How the network is trained.
    hidden : tuple of int
        Widths of the head's hidden layers.
    head_init : {"probe", "random"}
        What the head begins as.
    probe : dict
        Settings of `featx.fit` for the probe.
    fitted_before : frozenset of str
        sha256 of images that a given bundle was fitted on.
    cache : int or None
        Augmented copies of the frozen layers' activations to keep; 0 for the
        images as they are; None to compute them in every epoch.
    folder : Path
        Where all goes.
    notes : tuple of str
        What the user should know.
    """

    extraction: ExtractionJob
    tuning: Tuning
    hidden: tuple[int, ...]
    head_init: HeadInit
    probe: dict[str, Any]
    fitted_before: frozenset[str]
    cache: int | None
    folder: Path
    notes: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """Of the codes that the head takes."""
        return self.extraction.recipe

    @property
    def cut(self) -> str:
        """The layer after which the network is cut."""
        return self.recipe.layers[0]


def prepare_finetune(  # noqa: PLR0913  flat, as on the command line
    images: Path | str | None = None,
    *,
    layer: str | None = None,
    pool: str | None = None,
    size: int | str | tuple[int, int] | None = None,
    init: str | None = None,
    rename: Mapping[str, str] | None = None,
    preprocess: str | None = None,
    resize: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    clf: ProbeClassifier | None = None,
    from_bundle: Path | str | Model | None = None,
    head: str = "linear",
    head_init: HeadInit | None = None,
    cache: int | None = None,
    manifest: Path | str | None = None,
    group: str | None = None,
    output: Path | str = "tuned",
    overwrite: bool = False,
    **tuning: Any,
) -> FinetuneJob:
    """Check everything that a fine-tuning needs; no image is read.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder.
    layer : str, default="block5_pool"
        Where the network is cut; its codes are the head's.
    pool : {"none", "avg", "max", "avg+max", "grid:N"}, default="avg"
        What becomes of a map before the head.
    size : int, str or tuple of int, default=224
        Image size that the network sees, (height, width) in pixels.
    init : str, default="bundled"
        Weights to begin with, as `featx.extract` takes them; "random" is
        "random:0".
    rename : mapping of str to str, optional
        Name in a weights file -> layer of VGG19.
    preprocess : {"caffe", "unit"}, default="caffe"
        See `Recipe`.
    resize : {"squash", "crop", "pad"}, default="squash"
        See `Recipe`.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Of the network; weights stay float32.
    device : str, default="auto"
        "auto", "cpu", "gpu" or "gpu:N".
    clf : {"logistic", "ridge", "linear-svm"}, default="logistic"
        The probe.
    from_bundle : Path, str or Model, optional
        A bundle of one of these, whose recipe, classifier and settings are used.
    head : str, default="linear"
        "linear", or as in "mlp:1024,1024", whose numbers begin at random.
    head_init : {"probe", "random"}, optional
        What the head begins as: the probe where it is linear, by default [1]_.
    cache : int, optional
        Keep activations of the frozen layers: 0 of the images as they are,
        else of so many augmented copies. By default they are computed anew.
    manifest, group : optional
        See `featx.extract`.
    output : Path or str, default="tuned"
        A folder. If it holds a run that was stopped, that goes on.
    overwrite : bool, default=False
        Whether to begin anew.
    **tuning
        Those of `featx.finetuning.settings.Tuning`; from random weights
        `freeze_until` is "none" and `block_decay` 1 by default.

    Returns
    -------
    FinetuneJob
        For `run_finetune`.

    Raises
    ------
    OptionError, ImagesError, WeightsError
        See `finetune`.

    References
    ----------
    .. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
       Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
       https://arxiv.org/abs/2202.10054
    """
    given = {"layer": layer, "pool": pool, "size": size, "init": init, "rename": rename}
    given |= {"preprocess": preprocess, "resize": resize, "precision": precision, "clf": clf}
    chosen, probe, fitted_before = _from_bundle(from_bundle, given)
    hidden, head_init = _head(head, head_init)
    find_layer(chosen["layer"])
    settings, notes = _cached(_tuning(tuning, chosen["layer"], chosen["init"]), cache)
    folder = _folder(Path(output))
    with made_folder(folder):
        try:
            job = prepare_extraction(
                images,
                layer=chosen["layer"],
                pool=chosen["pool"],
                size=chosen["size"],
                resize=chosen["resize"],
                jpeg=chosen["jpeg"],
                weights=chosen["init"],
                rename=chosen["rename"],
                preprocess=chosen["preprocess"],
                precision=chosen["precision"],
                device=device,
                manifest=manifest,
                group=group,
                output=folder / "codes.h5",
                overwrite=overwrite,
            )
        except RecipeMismatchError as error:
            raise _other_run(folder) from error
        _check_views(job.recipe)
        _check_images(job, chosen.get("identity"))
    if overwrite:
        for name in ("checkpoint.h5", "run.json"):
            (folder / name).unlink(missing_ok=True)
    return FinetuneJob(
        extraction=job,
        tuning=settings,
        hidden=hidden,
        head_init=head_init,
        probe=probe,
        fitted_before=fitted_before,
        cache=cache,
        folder=folder,
        notes=notes,
    )


def _head(head: str, init: HeadInit | None) -> tuple[tuple[int, ...], HeadInit]:
    """Return widths of the head's hidden layers, and what it begins as."""
    hidden = hidden_sizes(head)
    init = init or ("random" if hidden else "probe")
    if init not in {"probe", "random"}:
        message = f"No head begins as '{init}'. Use --head-init probe or random."
        raise OptionError(message)
    if hidden and init == "probe":
        message = (
            f"--head {head} has layers that no probe has. Use --head-init random, or --head linear."
        )
        raise OptionError(message)
    return hidden, init


def _tuning(given: Mapping[str, Any], layer: str, init: str) -> Tuning:
    """Make the settings; some defaults depend on the cut, and on what the network begins as."""
    given = {name: value for name, value in given.items() if value is not None}
    unknown = set(given) - {field.name for field in dataclasses.fields(Tuning)}
    if unknown:
        message = f"No such settings: {', '.join(sorted(unknown))}."
        raise OptionError(message)
    if given.get("batch_size") == "auto":
        del given["batch_size"]
    if init.startswith("random"):
        # Nothing is worth keeping, and no block is nearer to its end than another.
        defaults: dict[str, Any] = {"freeze_until": "none", "block_decay": 1.0}
    else:
        blocks = ("none", *(f"block{k}_pool" for k in range(1, 6)))
        # All but the last block that the cut leaves.
        defaults = {"freeze_until": blocks[int(layer[5]) - 1 if layer.startswith("block") else 5]}
    tuning = Tuning(**defaults | given)
    tuning.frozen(layer)
    return tuning


def _cached(tuning: Tuning, cache: int | None) -> tuple[Tuning, tuple[str, ...]]:
    """Return the settings that a cache allows, with a note if they are others."""
    if cache is not None and cache < 0:
        message = f"No such number of copies: --cache {cache}. Expected 0 or more."
        raise OptionError(message)
    if cache is not None and tuning.freeze_until == "none":
        message = "--cache keeps activations of frozen layers, and none is. Use --freeze-until."
        raise OptionError(message)
    if cache != 0 or tuning.augment == "none":
        return tuning, ()
    note = (
        "--cache 0 keeps the images as they are: nothing is augmented. For K augmented "
        "copies: --cache K."
    )
    return dataclasses.replace(tuning, augment="none"), (note,)


def _folder(folder: Path) -> Path:
    """Return a folder that is a fine-tuning's, or may be made for one."""
    check_folder(folder)
    if folder.is_dir() and not _is_own(folder):
        message = f"{folder} holds other files than a fine-tuning's. Choose another -o."
        raise OptionError(message)
    return folder


def _is_own(folder: Path) -> bool:
    """Return whether a folder is empty, or what a fine-tuning left, were it killed at once."""
    names = [path.name for path in folder.iterdir()]
    begun = all(name.lstrip(".").startswith("codes.h5") for name in names)
    return begun or {"codes.h5", "parts.csv"} <= set(names)


def _other_run(folder: Path) -> OptionError:
    """Return the error of a folder whose codes are not those of this run."""
    codes = folder / "codes.h5"
    recipe = open_store(codes).recipe
    height, width = recipe.size
    flags = [f"--layer {layer}" for layer in recipe.layers] + [f"--pool {recipe.pool}"]
    flags.append(f"--size {height}" if height == width else f"--size {height}x{width}")
    message = (
        f"{folder} holds a run with other settings: {' '.join(flags)}, and what featx info {codes} "
        "says. Use the old ones to go on, --overwrite to begin anew, or another -o."
    )
    return OptionError(message)


def _check_images(job: ExtractionJob, identity: str | None) -> None:
    """Refuse what can be known before an image is read; `identity` is of a bundle's weights."""
    if identity not in {None, job.recipe.weights}:
        message = (
            f"The weights {job.source.spec} are not those that the bundle was fitted with: "
            f"{job.recipe.weights[:12]}, expected {identity[:12]}. Put them there, or leave out "
            "--from-bundle."
        )
        raise RecipeMismatchError(message)
    labels = {record.label for record in job.listing.records if record.label}
    if len(labels) < 2:
        message = (
            f"{job.listing.root} has images of {', '.join(sorted(labels)) or 'no class'}. Expected "
            "two classes or more: data/CLASS/…, or data/train/CLASS/… and data/val/CLASS/…"
        )
        raise FitError(message)


def _check_views(recipe: Recipe) -> None:
    """Refuse codes of several views of an image, of which a network learns from one.

    Nor does it learn through second-order codes: a square root has no slope at 0.
    """
    flags = {"--scale": recipe.scales, "--flip": recipe.flip, "--crops": recipe.crops > 1}
    given = [flag for flag, value in flags.items() if value]
    if recipe.pool == "bilinear":
        given.append("--pool bilinear")
    if given:
        message = (
            f"Fine-tuning cannot go on from codes of {', '.join(given)}. Expected codes of one "
            "view of an image, of --pool none, avg, max, avg+max or grid:N. Use --pool avg; of a "
            "bundle, extract without, fit, and use that one."
        )
        raise OptionError(message)


def _from_bundle(
    bundle: Path | str | Model | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], frozenset[str]]:
    """Return the settings of the network and of the probe, and what a bundle was fitted on."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("init") == "random":
        chosen["init"] = "random:0"
    if bundle is None:
        clf = chosen.pop("clf", "logistic")
        if clf not in {"logistic", "ridge", "linear-svm"}:
            message = f"No probe '{clf}'. Use --clf logistic, ridge or linear-svm."
            raise OptionError(message)
        return _DEFAULTS | chosen, {"clf": clf}, frozenset()
    if not isinstance(bundle, Model):
        bundle = load_model(bundle)
    if chosen:
        flags = ", ".join(f"--{name}" for name in chosen)
        message = f"The bundle says {flags}. Leave that out, or leave out --from-bundle."
        raise OptionError(message)
    head_of(bundle)  # refuses what no head can begin as
    _check_views(bundle.recipe)
    recipe, facts, extraction = bundle.recipe, bundle.summary, bundle.provenance["extraction"]
    of_bundle = {
        "layer": recipe.layers[0],
        "pool": recipe.pool,
        "size": recipe.size,
        "init": extraction["weights"],
        "rename": extraction.get("rename"),
        "identity": recipe.weights,
        "preprocess": recipe.preprocess,
        "resize": recipe.resize,
        "jpeg": recipe.jpeg,
        "precision": recipe.precision,
    }
    probe = {
        "clf": facts["classifier"],
        "normalise": facts["normalise"],
        "settings": facts["parameters"],
    }
    return of_bundle, probe, frozenset(bundle.fitted_on)
