"""Run a training job on two ranks over gloo, without Ray: quick, and with no compiler within reach."""

import json
import os
import subprocess
import sys
from pathlib import Path

from psi0.train.launcher import REFUSAL
from psi0.train.worker import Job

RANK = """
import json, os, sys
os.environ["LOCAL_RANK"] = sys.argv[2]
import torch.distributed as dist
from psi0.train.worker import train_worker
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=int(sys.argv[2]), world_size=2)
train_worker(json.load(open(f"{sys.argv[1]}/job.json")))
"""


def train_on_two_ranks(job: Job, scratch: Path) -> Path:
    """Train to the end; returns the folder of the result. PATH is empty: whoever looks for a compiler fails."""
    scratch.mkdir()
    (scratch / "job.json").write_text(json.dumps(job.model_dump(mode="json")))
    extensions = scratch / "extensions"
    environment = os.environ | {"PATH": str(scratch), "TORCH_EXTENSIONS_DIR": str(extensions), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    command = [sys.executable, "-c", RANK, str(scratch)]
    logs = [(scratch / f"rank-{rank}.log").open("w") for rank in range(2)]
    ranks = [
        subprocess.Popen([*command, str(rank)], stdout=log, stderr=subprocess.STDOUT, env=environment)
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [process.wait(timeout=240) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    said = "".join((scratch / f"rank-{rank}.log").read_text() for rank in range(2))
    assert codes == [0, 0], said
    assert not (job.folder / REFUSAL).exists(), (job.folder / REFUSAL).read_text()
    assert not list(extensions.rglob("*")), "something was compiled"
    return job.folder / "result"
