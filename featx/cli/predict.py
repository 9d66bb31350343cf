"""`featx predict`: from images or stores to a table of labels and probabilities."""

import dataclasses
from collections import Counter

from featx.cli.console import on_cluster, place, progress_bar, say, show, start_backend
from featx.cli.options import ClusterName, PredictionOptions, Quiet
from featx.text import counted


def command(options: PredictionOptions, cluster: ClusterName = None, quiet: Quiet = False) -> None:
    """Predict labels and probabilities, and write them to a table.

    The columns are path, file, label, p_CLASS for each class, and reason; with --top K, they are
    path, file, label, p, label_2, p_2 and so on, and reason. If the model has a threshold, it
    decides the label, and is a column after it.
    """
    from featx.workflows import prepare_prediction, run_prediction

    device, cluster = place(options.device, cluster)
    job = prepare_prediction(**dataclasses.replace(options, device=device).as_settings())
    if job.joined is None and cluster is None:
        say(f"device {start_backend(device)[1]}", quiet=quiet)
    counts: Counter[str] = Counter()
    with (
        on_cluster(cluster, quiet=quiet) as workers,
        progress_bar("predict", quiet=quiet) as progress,
    ):
        for frame in run_prediction(dataclasses.replace(job, progress=progress), cluster=workers):
            counts.update(frame["label"].dropna())
    n_failed = job.n_images - counts.total()
    failed = f"; no label for {counted(n_failed, 'image')} that could not be read"
    n_done = counted(counts.total(), "prediction")
    show(f"{options.output}: {n_done}{failed if n_failed else ''}")
    for label, n in counts.most_common():
        say(f"  {n:6} {label}", quiet=quiet)
    positive = job.model.positive
    if positive is not None and positive.threshold is not None:
        say(f"The label is {positive.decision}.", quiet=quiet)
