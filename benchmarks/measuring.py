"""Run a case in its own process and measure its memory."""

import multiprocessing
import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measured(case: Callable[..., dict], *arguments: object) -> dict:
    """Run a case in its own process; add its peak anonymous memory in MB (Linux)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_run, args=(queue, case, arguments))
    process.start()
    result = queue.get()
    process.join()
    if isinstance(result, BaseException):
        raise result
    return result


def _run(queue: multiprocessing.Queue, case: Callable[..., dict], arguments: tuple) -> None:
    from featx.extraction.plan import PeakMemory

    try:
        with PeakMemory() as peak:
            result = case(*arguments)
        queue.put(result | {"peak_mb": round(peak.n_bytes / 1e6)})
    except Exception as error:
        queue.put(error)
        raise
