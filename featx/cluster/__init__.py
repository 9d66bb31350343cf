"""A cluster of Dask workers: connecting to it, and running tasks on it.

This package does not know about images or codes; other packages define the tasks.
"""

from featx.cluster.connecting import Cluster, connect
from featx.cluster.tasks import Task, run_tasks

__all__ = ["Cluster", "Task", "connect", "run_tasks"]
