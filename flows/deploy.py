"""Register the deployments of `prefect.yaml` with Prefect, when they or the flows changed."""

import os
import subprocess
from pathlib import Path

from infra.services import ready
from infra.services.definitions import POOL, prefect_environment, program
from psi0.connection import connect, services_folder
from psi0.errors import Psi0Error
from psi0.files import sha256_file, sha256_json, write_text
from psi0.settings import settings

FULL_RECIPE = "psi0/full-recipe"
DEPLOYMENTS = (FULL_RECIPE, "promote/promote", "publish/publish")

_SECONDS = 300


def deploy() -> bool:
    """Register the deployments unless these very ones are. Returns whether it did.

    Raises:
        Psi0Error: Prefect refuses, with its last words, or does not answer.
    """
    if not Path("prefect.yaml").exists():
        raise Psi0Error("prefect.yaml is not here; type this in the folder of the checkout")
    api, stamp = connect().prefect_api, services_folder() / "deployed"
    wanted = sha256_json(
        [api, *(sha256_file(path) for path in [Path("prefect.yaml"), *sorted(Path("flows").glob("*.py"))])]
    )
    if stamp.exists() and stamp.read_text() == wanted and all(_known(api, name) for name in DEPLOYMENTS):
        return False
    if not ready.pool_exists(api, POOL):
        raise Psi0Error(f"Prefect at {api} has no work pool {POOL!r}; `psi0 up` starts the worker that makes it")
    try:
        answer = subprocess.run(
            [program("prefect"), "--no-prompt", "deploy", "--all"],
            env={**os.environ, **prefect_environment(settings())},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Psi0Error(f"prefect deploy did not end within {_SECONDS} s; run `psi0 up` again") from None
    if answer.returncode != 0 or not all(_known(api, name) for name in DEPLOYMENTS):
        tail = "\n".join((answer.stdout + answer.stderr).strip().splitlines()[-6:])
        raise Psi0Error(f"prefect deploy failed; its last words:\n{tail}")
    write_text(stamp, wanted)
    return True


def _known(api: str, name: str) -> bool:
    return ready.http(f"{api}/deployments/name/{name}")
