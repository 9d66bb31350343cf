"""Sweeps: measure which layer, pooling and image size suit a set of images best."""

from featx.workflows.sweeping.prepare import Candidate, SweepJob, prepare_sweep, store_name
from featx.workflows.sweeping.results import Sweep, SweepRow, Verdict, read_sweep
from featx.workflows.sweeping.run import run_sweep, sweep
from featx.workflows.sweeping.settings import SweepProgress, SweepSettings

__all__ = [
    "Candidate",
    "Sweep",
    "SweepJob",
    "SweepProgress",
    "SweepRow",
    "SweepSettings",
    "Verdict",
    "prepare_sweep",
    "read_sweep",
    "run_sweep",
    "store_name",
    "sweep",
]
