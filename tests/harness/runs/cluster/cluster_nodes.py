"""A cluster of real node processes on loopback, in a process of its own: `python cluster_nodes.py FOLDER NODES`.

All that Ray writes is in FOLDER. Each node, in JSON, is a list of cores and environment. The address and the processes
of the nodes go to standard output as JSON; the cluster ends with standard input. Not a test file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

MEMORY = 100 << 20


def main() -> None:
    # Ray's own niceness of 15 would starve its tasks on a machine that others use.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    [folder, text] = sys.argv[1:]
    # Ray notes the address of a cluster under /tmp/ray otherwise, also where that does not exist.
    os.environ["RAY_TMPDIR"] = folder
    Path(folder, "ray").mkdir()
    own, cluster, nodes = dict(os.environ), Cluster(), []
    for number, (num_cpus, environment) in enumerate(json.loads(text)):
        os.environ |= environment
        head = {"include_dashboard": False} if number == 0 else {}
        nodes.append(
            cluster.add_node(num_cpus=num_cpus, node_ip_address="127.0.0.1", object_store_memory=MEMORY, **head)
        )
        os.environ.clear()
        os.environ |= own
    processes = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "nodes": processes}), flush=True)
    try:
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
