"""What a benchmark ran on."""

import os

from psi0.machine import processor


def describe_machine(with_what: str) -> str:
    """Processor, cores, load and the version of what is measured, as a line to be quoted beside every number."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{processor()}, {os.cpu_count()} cores, load {load} at the start; {with_what}"
