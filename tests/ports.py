"""Ports for servers of tests."""

import os
import random
import socket

_UNTRIED_PORTS = iter(random.Random(os.getpid()).sample(range(20000, 29000, 10), 900))


def free_ports(count: int, spread: int = 10000) -> int:
    """First of `count` (up to 10) free neighbouring ports, free `spread` above them too; none is given out twice."""
    for first in _UNTRIED_PORTS:
        probes = []
        try:
            for port in [*range(first, first + count), *range(first + spread, first + spread + count)]:
                probes.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free ports")


def stack_ports() -> dict[str, str]:
    """Settings that give a whole stack of services ports of its own; S3 takes three from its inner one, Ray three."""
    first = free_ports(10)
    places = {"S3": 0, "MLFLOW": 1, "PREFECT": 2, "WATCH": 3, "S3_INTERNAL": 4, "RAY": 7}
    return {f"PSI0_{name}_PORT": str(first + place) for name, place in places.items()}
