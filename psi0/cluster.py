"""Ray, for training and evaluation alike: the cluster of `PSI0_RAY_ADDRESS`, or an embedded one on loopback."""

import logging
import os
import socket
from types import ModuleType

from psi0.errors import Psi0Error
from psi0.settings import settings

OBJECT_STORE_BYTES = 100_000_000
"""Ray's shared memory; nothing large travels through it here."""
_KNOCK_SECONDS = 10.0

_ENVIRONMENT = {
    # Without it Ray replaces a loopback address by the machine's outer one.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers are what the machine is there for; at Ray's default of 15 anything else that runs takes their cores.
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def connect_ray(cpus: int, environment: dict[str, str]) -> ModuleType:
    """Connect to the cluster, or start an embedded Ray of `cpus` CPUs; returns the module `ray`.

    Args:
        cpus: what is needed here, where no cluster is named.
        environment: variables of every worker.

    Raises:
        Psi0Error: nothing answers at the address.
    """
    for name, value in {**_ENVIRONMENT, **environment}.items():
        os.environ.setdefault(name, value)
    import ray

    address = settings().ray_address
    if address is None:
        # "local" keeps Ray from joining a cluster that happens to run on this machine.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
        )
        return ray
    try:
        _knock(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": environment},
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise Psi0Error(
            f"no Ray cluster answers at PSI0_RAY_ADDRESS {address} ({error}); check the address and"
            " RAY_AUTH_TOKEN_PATH, or unset it to compute on this machine"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens: Ray itself would try for minutes. `ray://` and `auto` are left to Ray."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
