"""A copy of this checkout with services of its own, in which a policy is built, judged and registered."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from flows.summary import Summary
from psi0.errors import Psi0Error
from psi0.files import write_text
from tests.ports import stack_ports

_OWN = ("PSI0_", "PREFECT_", "MLFLOW_")


class Checkout:
    """The copy: its files, its parameters, its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute() / "checkout"
        self._source = Path.cwd()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        self._environment |= stack_ports()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment |= {"PATH": path, "PYTHONPATH": str(self.folder), "DVC_NO_ANALYTICS": "1"}

    def prepare(self) -> None:
        """Copy the working tree as it stands; data and models come from this workspace's DVC cache."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        for name in self._listing():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._source / name, self.folder / name)
        shutil.copy2(self._source / "dvc.lock", self.folder / "dvc.lock")
        cache = f"[cache]\n    dir = {self._source.absolute() / '.dvc' / 'cache'}\n"
        (self.folder / ".dvc" / "config.local").write_text(cache)
        identity = ["-c", "user.name=psi0", "-c", "user.email=psi0@localhost"]
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "gate proof"]):
            self._call(["git", *command])
        self._call([_program("dvc"), "checkout"])

    def change_params(self, changes: dict[str, dict[str, Any]]) -> None:
        """Change fields of blocks of `params.yaml`."""
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        for block, fields in changes.items():
            params[block] |= fields
        write_text(self.folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))

    def replace_export(self, command: str, inputs: list[str]) -> None:
        """Let stage `export` run another command, with more inputs; its output stays where it was."""
        dag = yaml.safe_load((self.folder / "dvc.yaml").read_text())
        stage = dag["stages"]["export"]
        stage["cmd"] = command
        stage["deps"] += inputs
        write_text(self.folder / "dvc.yaml", yaml.safe_dump(dag, sort_keys=False))

    def restore(self) -> None:
        """Put parameters, DAG and lock back as they were copied."""
        for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
            shutil.copy2(self._source / name, self.folder / name)
        self._call([_program("dvc"), "checkout", "--force"])

    def recipe(self, name: str, task: str) -> Summary:
        """Run the recipe for a task, its log beside the checkout.

        Raises:
            Psi0Error: it fails.
        """
        print(f"gate_proof: {name} ...", flush=True)
        log = self.folder.parent / f"{name.replace(' ', '-')}.log"
        with log.open("w") as file:
            status = subprocess.run(
                [sys.executable, "-m", "flows.run", "--tasks", task],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if status != 0:
            raise Psi0Error(f"the recipe of the policy {name!r} failed; {log} says why")
        report = self.folder / "gate" / task / "report.html"
        shutil.copyfile(report, self.folder.parent / f"{name.replace(' ', '-')}.html")
        summaries = sorted(
            (self.folder / ".psi0" / "recipe" / "summaries").glob("*.json"), key=lambda file: file.stat().st_mtime
        )
        return Summary.model_validate(json.loads(summaries[-1].read_text()))

    def end(self) -> None:
        """Stop the services."""
        if self.folder.exists():
            subprocess.run([_program("psi0"), "down"], cwd=self.folder, env=self._environment, check=False)

    def _listing(self) -> list[str]:
        answer = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True
        )
        return [name for name in answer.stdout.splitlines() if Path(name).is_file() and name != "dvc.lock"]

    def _call(self, command: list[str]) -> None:
        answer = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        if answer.returncode != 0:
            raise Psi0Error(f"`{' '.join(command)}` failed in {self.folder}: {answer.stderr.strip()[-500:]}")


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
