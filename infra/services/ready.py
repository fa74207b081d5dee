"""Questions to ask a service: does it answer, and can it be used?"""

import json
import socket
import urllib.error
import urllib.request
from datetime import datetime
from http.client import HTTPException

_PATIENCE_SECONDS = 2.0


def http(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, HTTPException):
        return False


def tcp(host: str, port: int) -> bool:
    """Whether somebody accepts connections."""
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE_SECONDS):
            return True
    except OSError:
        return False


def free(host: str, port: int) -> bool:
    """Whether a port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def worker_online(prefect_api: str, pool: str, since: float) -> bool:
    """Whether Prefect heard a worker of a pool after `since` [s since 1970]; a stopped one stays online a while."""
    question = urllib.request.Request(
        f"{prefect_api}/work_pools/{pool}/workers/filter",
        data=json.dumps({"workers": {"status": {"any_": ["ONLINE"]}}}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(question, timeout=_PATIENCE_SECONDS) as answer:
            heard = [datetime.fromisoformat(worker["last_heartbeat_time"]) for worker in json.load(answer)]
    except (OSError, ValueError, KeyError, HTTPException):
        return False
    return any(moment.timestamp() >= since for moment in heard)


def pool_exists(prefect_api: str, pool: str) -> bool:
    """Whether Prefect knows a work pool."""
    return http(f"{prefect_api}/work_pools/{pool}")
