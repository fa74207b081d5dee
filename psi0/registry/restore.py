"""From a version back to its files: its `dvc.lock` in a checkout, so that `dvc pull` knows what to fetch."""

import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from psi0.errors import Psi0Error
from psi0.params import load_params
from psi0.registry.versions import Version, download_evidence


def restore_lock(client: MlflowClient, version: Version, workspace: Path = Path()) -> str:
    """Put a version's `dvc.lock` into a workspace; returns what to do next.

    Raises:
        Psi0Error: the workspace's `params.yaml` holds other values; nothing is overwritten then.
    """
    with tempfile.TemporaryDirectory() as folder:
        lock = download_evidence(client, version, Path(folder), "dvc.lock")
        params = download_evidence(client, version, Path(folder), "params.yaml")
        if load_params(params) != load_params(workspace / "params.yaml"):
            raise Psi0Error(
                f"params.yaml differs from that of {version.label} (artifact evidence/params.yaml of "
                "its run): put that in place first, so that `dvc status` tells the truth"
            )
        shutil.copyfile(lock, workspace / "dvc.lock")
    commit = version.tags.get("git_commit", "unknown")[:12]
    return f"dvc.lock of {version.label} restored (code {commit}); `dvc pull` brings its files back"
