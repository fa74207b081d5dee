"""How long `psi0 registry audit` takes: `python -m benchmarks.registry.audit [versions]`, 100 by default.

On an S3 and an MLflow server of its own it registers so many judged versions, their graphs of 6 MB each, promotes one,
and audits three times: with everything to be read, with nothing new, and with `--reread`.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from mlflow import MlflowClient

from benchmarks.registry.stack import empty_registry
from psi0.files import write_json
from psi0.registry.audit import audit
from psi0.registry.promotion import promote
from psi0.registry.registration import register_policy
from psi0.registry.runs import begin_recipe, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from tests.code.judged_versions import LATENCY
from tests.code.whole_workspace import TASK, make_whole

GRAPH_BYTES = 6_000_000
"""About the size of the graphs that `make recipe` exports."""


def main() -> None:
    """Print the times."""
    with empty_registry() as client:
        measure(client, int(sys.argv[1]) if len(sys.argv) > 1 else 100)


def measure(client: MlflowClient, count: int) -> None:
    """Register so many versions, promote the last, and print how long audits of them take."""
    begin, parent = time.monotonic(), begin_recipe(client, "recipe")
    for number in range(count):
        workspace = make_whole(Path(f".psi0/workspaces/{number}"), f"policy {number}", graph_bytes=GRAPH_BYTES)
        for name, entry in read_lock(workspace).items():
            if number == 0 or name == f"gate@{TASK}":
                record_stage(client, read_stage(name, entry, workspace), parent)
        register_policy(client, TASK, workspace, add=lambda folder: write_json(folder / "latency.json", LATENCY))
        shutil.rmtree(workspace)
    print(f"{count} versions registered in {time.monotonic() - begin:.0f} s", flush=True)
    promote(client, TASK, str(count))
    for name, reread in (("everything new", False), ("nothing new", False), ("--reread", True)):
        found = audit(client, reread=reread)
        print(f"{name}, on {os.cpu_count()} cores under load {os.getloadavg()[0]:.1f}: {found.summary}", flush=True)


if __name__ == "__main__":
    main()
