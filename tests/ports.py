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
