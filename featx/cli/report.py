"""`featx report`: one page about a model, a sweep or a fine-tuning."""

from featx.cli.console import gigabytes, print_json, say, show, start_backend
from featx.cli.options import AsJson, Quiet, ReportOptions
from featx.text import counted


def command(options: ReportOptions, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Write an HTML report about a model, a sweep or a fine-tuning.

    The page shows scores, confused classes with their images, heat maps and a map of the
    codes. It is one file that needs no other file and no internet connection. Images are
    shown by the thumbnails in the store; only images with a heat map pass through VGG19 again.
    """
    from featx.report import prepare_report, run_report

    say(f"reading {options.source} and its codes", quiet=quiet)
    job = prepare_report(**options.as_settings())
    if job.heat_maps is not None:
        images = counted(len(job.heat_maps.images), "image")
        say(f"heat maps of {images}, device {start_backend('auto')[1]}", quiet=quiet)
    path = run_report(job)
    n_bytes = path.stat().st_size
    if as_json:
        print_json({"page": str(path), "bytes": n_bytes})
        return
    show(f"{path}: report about {options.source}, {gigabytes(n_bytes)}")
    say("Open it in a browser; it needs no other file.", quiet=quiet)
