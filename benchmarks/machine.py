"""What a benchmark ran on."""

import os
from pathlib import Path


def describe_machine(with_what: str) -> str:
    """Processor, cores, load and the version of what is measured, as a line to be quoted beside every number."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, load {load} at the start; {with_what}"
