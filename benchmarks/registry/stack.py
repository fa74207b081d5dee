"""A real S3 server and a real MLflow server in a folder that goes away, with a registry that holds nothing yet."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from infra.services import stack
from psi0.registry.tracking import open_tracking
from psi0.settings import settings
from tests.ports import free_ports

_NAMES = ("S3_PORT", "S3_INTERNAL_PORT", "MLFLOW_PORT")
_EACH = 3
"""Neighbouring ports that a server may need."""


@contextmanager
def empty_registry() -> Iterator[MlflowClient]:
    """A client of the servers; meanwhile this process stands in a clone of the checkout and its settings name them."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="psi0-registry-") as folder:
        clone = Path(folder) / "psi0"
        subprocess.run(["git", "clone", "-q", str(before), str(clone)], check=True)
        os.chdir(clone)
        first = free_ports(len(_NAMES) * _EACH)
        ports = {name: first + _EACH * place for place, name in enumerate(_NAMES)}
        os.environ |= {f"PSI0_{name}": str(port) for name, port in ports.items()}
        os.environ["PSI0_HOME"] = str(clone / ".psi0")
        settings.cache_clear()
        try:
            stack.up(only={"s3", "mlflow"})
            yield open_tracking()
        finally:
            stack.down()
            os.chdir(before)
