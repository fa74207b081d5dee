"""A real S3 server for a test session, and workspaces with a judged policy, made by hand."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from infra.services import leftovers, stack
from psi0 import storage
from psi0.connection import connect, services_folder
from psi0.evaluate.schemas import ControlResult, Floor, GateFile, Interval, Parity, write_record
from psi0.files import sha256_folder, write_json
from psi0.model.manifest import write_manifest
from psi0.params import Params
from psi0.processes import end
from psi0.registry.tracking import open_tracking
from psi0.settings import Settings, settings
from tests.ports import free_ports


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a stack whose S3 server runs (and nothing else)."""
    folder = tmp_path_factory.mktemp("stack")
    first = free_ports(5)
    config = Settings(home=folder / "home", s3_port=first, s3_internal_port=first + 1)
    before = Path.cwd()
    os.chdir(folder)
    try:
        stack.up(lambda line: None, config, only={"s3"})
    finally:
        os.chdir(before)
    yield config
    # What it holds is thrown away, so nobody waits for a clean end.
    end(leftovers.of_stack(str(services_folder(config))), patience_seconds=0)


@pytest.fixture
def use_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set settings of this process for one test: `use_settings(home=..., bucket=...)`."""

    def use(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PSI0_{name.upper()}", str(value))
        settings.cache_clear()

    yield use
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def s3(
    s3_server: Settings, use_settings: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The S3 server as this process's own, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    storage.client(connect(s3_server)).delete_object(Bucket=s3_server.bucket, Key="channels/pick_can/stable.json")
    use_settings(home=s3_server.home, s3_port=s3_server.s3_port, s3_internal_port=s3_server.s3_internal_port)
    return s3_server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, migrated once per session."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    open_tracking(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of an empty registry in a file, without any server."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return open_tracking(f"sqlite:///{tmp_path / 'mlflow.db'}")


def make_graphs(folder: Path, policy_sha256: str = "a" * 64) -> None:
    """A graph folder as far as bundles look at it: files under a manifest."""
    folder.mkdir(parents=True)
    (folder / "s1_step.onnx").write_bytes(b"graph" * 2000)
    write_json(folder / "parity.json", {"schema_version": 1, "max_abs_error": {"actions": 1e-6}})
    write_manifest(folder, policy_sha256=policy_sha256)


def make_gate(folder: Path, graphs: Path, verdict: str = "pass") -> None:
    """A gate folder with a verdict on a graph folder."""
    folder.mkdir(parents=True)
    interval = Interval(low=0.87, high=0.99, method="wilson", confidence=0.95, descriptive=True)
    sequence = Interval(low=0.82, high=1.0, method="beta_binomial_mixture", confidence=0.95, descriptive=False)
    floor = Floor(
        test="sequential",
        p0=0.75,
        p1=0.92,
        alpha=0.05,
        beta=0.1,
        n_max=100,
        decision="accept",
        episodes=40,
        successes=39,
        success_rate=0.975,
        interval=interval,
        confidence_sequence=sequence,
    )
    blind = ControlResult(episodes=20, successes=0, success_rate=0.0, upper_bound=0.14, ceiling=0.25, holds=True)
    gate = GateFile(
        task="pick_can",
        verdict=verdict,
        sentence="It picks the can.",
        reasons=[] if verdict == "pass" else ["the control blind is above its ceiling"],
        plan_sha256="b" * 64,
        policy_sha256="a" * 64,
        graphs_sha256=sha256_folder(graphs),
        floor=floor,
        controls={"blind": blind},
        parity=Parity(max_abs_error=1e-6, limit=1e-4, holds=True),
        evidence={},
    )
    write_record(folder / "gate.json", gate)
    (folder / "report.html").write_text("<h1>report</h1>")
    write_json(folder / "metrics.json", {"success_rate": 0.975})


def make_workspace(folder: Path, verdict: str = "pass") -> Path:
    """A workspace in which a policy for `pick_can` was built and judged."""
    make_graphs(folder / "models/graphs/pick_can")
    make_gate(folder / "gate/pick_can", folder / "models/graphs/pick_can", verdict)
    (folder / "evaluation/pick_can/videos").mkdir(parents=True)
    write_json(folder / "evaluation/pick_can/policy.json", {"schema_version": 1})
    (folder / "evaluation/pick_can/videos/policy_700000.mp4").write_bytes(b"film")
    policy = folder / "models/policy/pick_can"
    policy.mkdir(parents=True)
    write_json(policy / "metrics.json", {"loss": 0.1, "held_out": {"loss": 0.2}})
    (policy / "history.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    (folder / "data/robot").mkdir(parents=True)
    write_json(folder / "data/robot/limits.json", {"schema_version": 1})
    params = Params().model_dump(mode="json")
    params["publish"]["engines"] = []
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    lock = {
        "schema": "2.0",
        "stages": {
            "finetune@pick_can": {
                "cmd": "psi0 stage finetune --task pick_can",
                "deps": [{"path": "data/prepared/demonstrations/pick_can", "md5": "c" * 32 + ".dir"}],
                "params": {"params.yaml": {"finetune": {"steps": 500, "seed": 7}}},
                "outs": [{"path": "models/policy/pick_can", "md5": "d" * 32 + ".dir"}],
            },
            "gate@pick_can": {
                "cmd": "psi0 stage gate --task pick_can",
                "deps": [{"path": "evaluation/pick_can", "md5": "e" * 32 + ".dir"}],
                "outs": [{"path": "gate/pick_can", "md5": verdict}],
            },
        },
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    return folder


def make_evidence(folder: Path, verdict: str = "pass") -> Path:
    """A version's evidence as `download_evidence` brings it."""
    workspace = make_workspace(folder / "workspace", verdict)
    evidence = folder / "evidence"
    evidence.mkdir()
    (workspace / "models/graphs/pick_can").rename(evidence / "graphs")
    (workspace / "gate/pick_can").rename(evidence / "gate")
    (workspace / "evaluation/pick_can").rename(evidence / "evaluation")
    for name in ("params.yaml", "dvc.lock"):
        (workspace / name).rename(evidence / name)
    (workspace / "data/robot/limits.json").rename(evidence / "limits.json")
    write_json(evidence / "latency.json", {"schema_version": 1, "p50_ms": 1.0})
    return evidence


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace in which a policy passed."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """The evidence of a version that passed."""
    return make_evidence(tmp_path / "version")


@pytest.fixture(scope="session")
def mlflow_server(s3_server: Settings) -> Settings:
    """Settings of the same stack, whose MLflow server runs too."""
    config = s3_server.model_copy(update={"mlflow_port": free_ports(1)})
    before = Path.cwd()
    os.chdir(s3_server.home.parent)
    try:
        stack.up(lambda line: None, config, only={"mlflow"})
    finally:
        os.chdir(before)
    return config


@pytest.fixture
def tracking(mlflow_server: Settings, s3: Settings, use_settings: Callable[..., None]) -> MlflowClient:
    """A client of the real MLflow server, whose artifacts lie on the real S3."""
    use_settings(mlflow_port=mlflow_server.mlflow_port)
    return open_tracking()


@pytest.fixture
def registry(tracking: MlflowClient) -> MlflowClient:
    """`tracking`, without any version, lock or pointer of `pick_can`."""
    forget_task(tracking)
    return tracking


def forget_task(client: MlflowClient, task: str = "pick_can") -> None:
    """Remove every version of a task's policy, its lock and its pointer."""
    with suppress(MlflowException):
        client.delete_registered_model(f"psi0-{task}")
    connection = connect()
    for key in (f"locks/{task}.json", f"channels/{task}/stable.json"):
        storage.client(connection).delete_object(Bucket=connection.bucket, Key=key)
