"""The output that docs/registry.md and docs/promotion.md show: `python -m benchmarks.registry.pages`.

It starts an S3 and an MLflow server of its own, registers three versions (workspaces as the DAG leaves them, judged by
the real gate on made-up episodes: tests/code/whole_workspace.py), types the commands, and puts what they print into
the two documents, and MLflow's page of a version into docs/images/registry.png. Ports are shown as their defaults.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image
from selenium.webdriver.common.by import By
from typer.testing import CliRunner

from benchmarks.registry.stack import empty_registry
from psi0 import storage
from psi0.cli import app
from psi0.connection import connect
from psi0.errors import Psi0Error
from psi0.files import write_text
from psi0.params import Params
from psi0.registry.promotion_files import keep
from psi0.registry.versions import Version, find_version
from tests.code import whole_workspace
from tests.code.browser import open_browser, set_width
from tests.code.judged_versions import LATENCY, PARAMS, played_as
from tests.code.whole_workspace import GOOD, TASK, make_whole

DOCUMENTS = (Path("docs/registry.md"), Path("docs/promotion.md"))
PICTURE = Path("docs/images/registry.png")
WIDTH, ASSISTANT = 1156, 404
"""Of the picture, and of the panel on its right that is cut off [pixels]."""
GOES_ON = PARAMS.model_copy(update={"finetune": PARAMS.finetune.model_copy(update={"steps": 8000})})
_BLOCK = re.compile(r"^```\n(\$ [^\n]+)\n.*?^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Fill the documents."""
    documents, picture = [path.absolute() for path in DOCUMENTS], PICTURE.absolute()
    with empty_registry() as client:
        shown = story(client, picture)
    missing = fill(documents, shown)
    if missing:
        raise SystemExit(f"no document shows: {'; '.join(missing)}")


def story(client: MlflowClient, picture: Path) -> dict[str, str]:
    """Register, promote, refuse, roll back, override, tamper; what each command printed, by its line."""
    os.environ |= {"COLUMNS": "118", "LOGNAME": "ada", "NO_COLOR": "1"}
    shown: dict[str, str] = {}

    def show(line: str) -> None:
        print(line, flush=True)
        shown[line] = typed(line)

    _git("checkout", "-q", "HEAD~1")
    register(client, 1, _failing(3, 11))
    register(client, 2, _failing(*range(0, 90, 2)))
    _git("checkout", "-q", "-")
    third = register(client, 3, _failing(4), GOES_ON, weights="others")
    show('$ psi0 promote pick_can 1 --because "the first that passed"')
    show("$ psi0 promote pick_can 2")
    keep(client, third, played_as(1, 2)(client, third, find_version(client, TASK, "1")))
    show("$ psi0 promote pick_can 3")
    for verb in ("list", "show 2", "lineage", "diff 1 3", "leaderboard --out board.html"):
        show(f"$ psi0 registry {verb}")
    show("$ psi0 registry audit")
    photograph(third, picture)
    show("$ psi0 promote pick_can --rollback")
    show('$ psi0 promote pick_can 2 --override --because "a demo for the mayor"')
    show("$ psi0 registry audit          # after the override")
    typed("$ psi0 promote pick_can --rollback")
    client.set_registered_model_alias(third.name, "champion", "2")
    client.set_model_version_tag(third.name, "3", "success_rate", "1.000")
    flip(third)
    show("$ psi0 registry audit          # after somebody moved the alias and edited a tag and an evaluation file")
    return shown


def register(
    client: MlflowClient, number: int, policy: Sequence[bool], params: Params = PARAMS, weights: str = "weights"
) -> Version:
    """Judge a policy with these outcomes and register it, as the recipe does."""
    outcomes = {**GOOD, "policy": policy}
    workspace = make_whole(Path(f".psi0/workspaces/{number}"), f"policy {number}", outcomes, params, weights)
    return whole_workspace.register(client, workspace, LATENCY)


def typed(line: str) -> str:
    """What a command prints, an error's message included."""
    command = re.sub(r"\s+#.*", "", line.removeprefix("$ psi0 "))
    arguments = [one.strip('"') for one in re.findall(r'"[^"]*"|\S+', command)]
    answer = CliRunner().invoke(app, arguments)
    text = answer.output
    if isinstance(answer.exception, Psi0Error):
        text += f"psi0: {answer.exception}\n"
    elif answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:5000", text).replace(socket.gethostname(), "lab")
    return "\n".join(part.rstrip() for part in text.strip("\n").splitlines())


def flip(version: Version) -> None:
    """Change one episode in a version's evaluation file, as somebody with the bucket's key could."""
    connection = connect()
    s3: Any = storage.client(connection)
    key = f"mlflow/{version.source.removeprefix('mlflow-artifacts:/')}/evaluation/policy.json"
    content = json.loads(s3.get_object(Bucket=connection.bucket, Key=key)["Body"].read())
    next(row for row in content["rows"] if not row["success"])["success"] = True
    s3.put_object(Bucket=connection.bucket, Key=key, Body=json.dumps(content).encode())


def photograph(version: Version, picture: Path) -> None:
    """Take MLflow's page of a version."""
    with open_browser() as driver:
        set_width(driver, WIDTH + ASSISTANT)
        driver.get(f"{connect().mlflow_uri}/#/models/{version.name}/versions/{version.number}")
        deadline = time.monotonic() + 120
        while "upper bound" not in driver.find_element(By.TAG_NAME, "body").text:
            if time.monotonic() > deadline:
                raise TimeoutError("MLflow's page does not show the description")
            time.sleep(0.5)
        time.sleep(2)
        whole = Image.open(BytesIO(driver.get_screenshot_as_png()))
    whole.crop((0, 0, WIDTH, whole.height)).save(picture, optimize=True)


def fill(documents: list[Path], shown: dict[str, str]) -> list[str]:
    """Put outputs into the blocks of the documents that begin with their commands; returns those that none shows."""
    left = set(shown)
    for document in documents:

        def block(match: re.Match[str]) -> str:
            line = match.group(1)
            if line not in shown:
                return match.group(0)
            left.discard(line)
            return f"```\n{line}\n{shown[line]}\n```"

        write_text(document, _BLOCK.sub(block, document.read_text()))
    return sorted(left)


def _failing(*places: int) -> list[bool]:
    """Outcomes of a hundred episodes, of which some fail."""
    return [number not in places for number in range(100)]


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


if __name__ == "__main__":
    main()
