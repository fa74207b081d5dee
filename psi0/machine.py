"""What kind of machine this is, where results may hang on it."""

import platform
from pathlib import Path


def processor() -> str:
    """The CPU's type, as it names itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
