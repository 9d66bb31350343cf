"""A cluster of Dask's workers: connecting to one, and giving tasks out.

It knows neither images nor codes: what a task does is for other rooms to say.
"""

from featx.cluster.connecting import Cluster, connected
from featx.cluster.tasks import Task, given_out

__all__ = ["Cluster", "Task", "connected", "given_out"]
