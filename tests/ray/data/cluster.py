"""A small cluster of Ray, until standard input ends: `python -m tests.ray.data.cluster FOLDER CPUS...`, a node each."""

from __future__ import annotations

import os
import sys


def main(folder: str, *cpus: str) -> None:
    # By RAY_TMPDIR the file that names the cluster is in the folder too, where no other Ray finds it.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
    from ray.cluster_utils import Cluster

    first, *others = map(int, cpus)
    memory = {"object_store_memory": 80 << 20}
    head = {"num_cpus": first, "include_dashboard": False, **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for count in others:
        cluster.add_node(num_cpus=count, **memory)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
