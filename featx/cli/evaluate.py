"""`featx evaluate`: from labelled images or stores to the scores of a model."""

import dataclasses

from featx.cli.console import print_json, progress_bar, say, say_notes, show, start_backend
from featx.cli.options import AsJson, EvaluationOptions, Quiet
from featx.cli.scores import print_scores
from featx.text import counted


def command(options: EvaluationOptions, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Evaluate a model on labelled images.

    Images that the model was fitted on, near-duplicates of them and images of their groups are
    scored separately.
    """
    from featx.workflows import prepare_evaluation, run_evaluation

    job = prepare_evaluation(**options.as_settings())
    if job.joined is None:
        say(f"device {start_backend(options.device)[1]}", quiet=quiet)
    with progress_bar("evaluate", quiet=quiet) as progress:
        found = run_evaluation(dataclasses.replace(job, progress=progress))
    say_notes(found.notes, quiet=quiet)
    if as_json:
        print_json(found.to_dict())
        return
    show(f"{options.model}: scored on {counted(found.evaluation.n_images, 'image')}")
    print_scores(found.evaluation, quiet=quiet)
    if found.training_accuracy is not None:
        n_fitted = counted(found.n_training_images, "image")
        show(f"accuracy on {n_fitted} that are not new to the model: {found.training_accuracy}")
