"""The sweep: which layer, pooling and size serve a set of images best, measured."""

from featx.workflows.sweeping.prepare import Candidate, SweepJob, prepare_sweep
from featx.workflows.sweeping.run import Progress, Sweep, run_sweep, sweep
from featx.workflows.sweeping.verdict import SweepRow, Verdict

__all__ = [
    "Candidate",
    "Progress",
    "Sweep",
    "SweepJob",
    "SweepRow",
    "Verdict",
    "prepare_sweep",
    "run_sweep",
    "sweep",
]
