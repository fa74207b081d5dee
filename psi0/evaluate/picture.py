"""A picture of a report, as a browser shows it."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from psi0.errors import Psi0Error

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1100, 1320
"""Size of the window [pixels]: the verdict, the success chart, the floor test and the map of poses."""
_SECONDS = 120


def take_picture(report: Path, file: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write what a browser window shows of a report as PNG.

    Raises:
        Psi0Error: there is no report, no browser, or the browser takes no picture.
    """
    if not report.exists():
        raise Psi0Error(f"{report} is missing; `dvc repro` writes it")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise Psi0Error(f"none of {', '.join(BROWSERS)} is installed; on Debian: apt-get install chromium")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={width},{height}"),
            *(f"--screenshot={file.absolute()}", report.absolute().as_uri()),
        ]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise Psi0Error(f"{browser} took no picture within {_SECONDS} s; try again") from None
    if not file.exists():
        raise Psi0Error(f"{browser} took no picture of {report}: {answer.stderr.strip()[-300:]}")
