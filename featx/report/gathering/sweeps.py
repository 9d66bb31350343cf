"""A finished sweep, and the codes of its best, as the contents of a page."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.fitting import FitJob, prepare_fit
from featx.metrics import Score
from featx.report.contents import (
    Contents,
    LearningPoint,
    Missing,
    Pictures,
    SweepPart,
    SweepRow,
)
from featx.report.gathering.looking import pictures_of, predict_held_out
from featx.report.gathering.words import recipe_facts, sweep_commands, sweep_lead
from featx.text import printable
from featx.workflows.sweeping import Candidate, read_sweep, store_name

__all__ = ["of_sweep"]


def of_sweep(path: Path) -> Contents:
    """Return the contents of a page about a sweep.

    Parameters
    ----------
    path : Path
        The sweep.json, in the folder with the stores.

    Raises
    ------
    ModelError
        The file cannot be read, or has another format version.
    """
    folder, facts = path.parent, read_sweep(path)
    rows = [_row(row, facts) for row in facts["rows"]]
    best = next(row for row in rows if "best" in row.mark)
    chosen = Score(**facts["expected_accuracy"])
    bars = [("the best, picked by this score", best.accuracy), ("sweep and take the best", chosen)]
    if facts["final"]:
        final = facts["final"]
        bars.append((f"the best, once on {final['scored_on']}", Score(**final["accuracy"])))
    pictures, job = _pictures(folder, facts, best)
    return Contents(
        kind="sweep",
        name=printable(str(folder)),
        lead=sweep_lead(best, len(rows), chosen),
        facts=() if job is None else recipe_facts(job.joined.recipe, job.joined.provenance),
        bars=tuple(bars),
        scored_on="images held out, in folds",
        evaluation=pictures if isinstance(pictures, Missing) else pictures.evaluation,
        pictures=pictures,
        notes=tuple(printable(note) for note in facts["notes"]),
        commands=sweep_commands(facts["commands"]),
        sweep=SweepPart(
            rows=tuple(rows),
            findings=tuple(
                facts[name]["text"] for name in ("domain_verdict", "more_images_verdict")
            ),
            curve=tuple(
                LearningPoint(point["n_train"], Score(**point["accuracy"]))
                for point in facts["learning_curve"]
            ),
        ),
    )


def _row(row: Mapping[str, Any], facts: Mapping[str, Any]) -> SweepRow:
    layers, size = tuple(row["layers"]), (int(row["size"][0]), int(row["size"][1]))
    name = str(Candidate(layers, row["pool"], size))
    marks = [word for word in ("best", "cheapest") if facts[word] == name]
    return SweepRow(
        layers=layers,
        pool=row["pool"],
        size=size,
        width=row["n_features"],
        accuracy=Score(**row["accuracy"]),
        balanced_accuracy=Score(**row["balanced_accuracy"]),
        bytes_per_image=row["bytes_per_image"],
        seconds_per_image=row["seconds_per_image"],
        mark=" and ".join(marks),
    )


def _pictures(
    folder: Path, facts: Mapping[str, Any], best: SweepRow
) -> tuple[Pictures | Missing, FitJob | None]:
    store = folder / store_name(best.size, best.pool)
    if not store.is_file():
        return Missing(
            f"The codes of the best are needed for the images, and {printable(str(store))} is not "
            f"there. Make it again by the same featx sweep -o {printable(str(folder))}, which goes on "
            "with what is left."
        ), None
    try:
        job = prepare_fit(store, layer=best.layers, baselines=False, **facts["fit"])
        # As the sweep looks for penalties: by decades only.
        space = dataclasses.replace(job.space, is_fine=False)
        found = predict_held_out(dataclasses.replace(job, space=space))
    except FeatxError as error:
        return Missing(f"Images cannot be shown, since their codes are of no use: {error}"), None
    note = ""
    if abs(found.evaluation.accuracy.value - best.accuracy.value) > 1e-9:
        note = (
            "These predictions are not quite those of the sweep: they have an accuracy of "
            f"{found.evaluation.accuracy.value:.3f}, the sweep's best {best.accuracy.value:.3f}. "
            "Its images or settings changed since. Run the same featx sweep again."
        )
    return dataclasses.replace(pictures_of(job, found), note=note), job
