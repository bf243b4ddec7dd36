"""Runs on a cluster by Ray: one task per run, and in it the usual worker process on a node.

In: the due runs of a `RunQueue` and the address of a cluster. Out: the files of each run's folder, which this process
writes into its results tree; nodes write nothing there. `connected` opens the cluster, `launch` gives a run to it,
`node` is what a task does on its node, `folder_files` moves a run's files. Ray is imported by `connected` alone.
"""

from harness.runs.cluster.connection import ClusterOptions, connected
from harness.runs.cluster.launch import Cluster

__all__ = ["Cluster", "ClusterOptions", "connected"]
