"""What a version carries: where it came from, how often its task was tried, and what the verbs tell about it."""

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from typer.testing import CliRunner

from psi0 import paths
from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.registry.attempts import attempt_of
from psi0.registry.audit import audit
from psi0.registry.difference import compare_versions, paired, unpaired
from psi0.registry.leaderboard import rank, write_board
from psi0.registry.lock_graph import gaps, rests_on
from psi0.registry.runs import begin_recipe, record_stage
from psi0.registry.stage_record import read_lock, read_stage
from psi0.registry.tracking import open_tracking
from psi0.registry.versions import Version, aliases, download_evidence, find_version, list_versions, note
from psi0.registry.weights import register_weights
from tests.code.whole_workspace import BAD, PARAMS, TASK, make_whole, register


@pytest.fixture(scope="module")
def registered(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MlflowClient, Version, Version, str]:
    """A registry with a policy that passed, then one from other weights that was refused; and its address."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        client = open_tracking(address)
        good = register(client, make_whole(folder / "good"))
        longer = PARAMS.model_copy(update={"finetune": PARAMS.finetune.model_copy(update={"steps": 700})})
        bad = register(client, make_whole(folder / "bad", "other", BAD, longer, weights="other"))
    return client, good, bad, address


Registered = tuple[MlflowClient, Version, Version, str]


def test_a_version_names_everything_it_came_from(registered: Registered, tmp_path: Path) -> None:
    client, good, bad, _ = registered
    expected = {"verdict": "pass", "reasons": "", "attempt": "1", "psi0-system2": "1", "psi0-system1": "1"}
    assert expected.items() <= good.tags.items()
    assert {"data.egodex", "data.humanoid_everyday", "data.demonstrations", "lock_sha256"} <= good.tags.keys()
    assert {"plan_sha256", "policy_sha256", "graphs_sha256", "git_commit", "interval_low"} <= good.tags.keys()
    assert aliases(client, TASK) == {"candidate": good.number}
    assert "floor test says no" in bad.tags["reasons"]
    assert bad.tags["psi0-system2"] == "2"
    weights = find_version(client, "system2", "1")
    assert "from egodex, humanoid_everyday" in weights.description
    files = client.list_artifacts(weights.run_id, "weights")
    assert {Path(file.path).name for file in files} == {"system2.safetensors", "system2.json"}
    signature = Model.load(str(download_evidence(client, good, tmp_path))).signature
    assert signature is not None
    assert [spec.name for spec in signature.inputs.inputs] == ["head_camera", "state", "instruction"]
    assert signature.outputs.inputs[0].shape == (-1, 16, 36)


def test_attempts_under_a_plan_are_counted(registered: Registered) -> None:
    client, good, bad, _ = registered
    assert bad.tags["attempt"] == "2"
    assert "candidate 2 under this plan" in bad.description
    assert "of 2 policies that succeed in 75%, at least one would pass with a chance of up to 10%" in bad.description
    plan = good.tags["plan_sha256"]
    assert attempt_of(client, TASK, plan, good.tags["policy_sha256"]) == 1, "judged again, it stays the first"
    assert attempt_of(client, TASK, plan, "f" * 64) == 3
    assert attempt_of(client, TASK, "0" * 64, "f" * 64) == 1, "another plan is another count"


def test_deleting_failures_does_not_start_the_count_anew(client: MlflowClient, tmp_path: Path) -> None:
    bad = register(client, make_whole(tmp_path / "bad", outcomes=BAD))
    client.delete_model_version(bad.name, bad.number)
    good = register(client, make_whole(tmp_path / "good", "better"))
    assert good.tags["attempt"] == "2"
    assert len(list_versions(client, "system2")) == 1, "the same weights are the same version"


def test_weights_too_large_to_copy_are_named_where_dvc_keeps_them(client: MlflowClient, tmp_path: Path) -> None:
    workspace = make_whole(tmp_path / "workspace")
    lock = read_lock(workspace)
    with pytest.raises(Psi0Error, match="pretrain has no run"):
        register_weights(client, lock, workspace)
    for name in ("pretrain", "posttrain"):
        record_stage(client, read_stage(name, lock[name], workspace), begin_recipe(client, "recipe"))
    large = register_weights(client, lock, workspace, limit=10)["system2"]
    md5 = large.tags["dvc_md5"]
    assert large.source == f"s3://psi0/dvc/files/md5/{md5[:2]}/{md5[2:]}"
    assert not register_weights(client, lock, workspace)["system2"].created
    shutil.rmtree(workspace / paths.SYSTEM2)
    with pytest.raises(Psi0Error, match="dvc pull models/system2"):
        register_weights(client, lock, workspace)


def test_lineage_reaches_the_raw_episodes(registered: Registered, use_settings: Callable[..., None]) -> None:
    _, good, _, address = registered
    use_settings(mlflow_uri=address)
    answer = CliRunner().invoke(app, ["registry", "lineage", good.number, "--json"])
    found = json.loads(answer.stdout)
    assert found["gaps"] == []
    facts = {step["stage"]: " ".join(step["facts"]) for step in found["steps"]}
    assert next(iter(facts)) == "gate@pick_can"
    assert "psi0-system1 version 1" in facts["posttrain"]
    assert "79 episodes, 7900 frames at 10 Hz, 1 set aside" in facts["prepare_demonstrations@pick_can"]
    assert "episode_17: right_elbow_joint lies" in facts["prepare_demonstrations@pick_can"]
    assert "source recorder from seed 0" in facts["demonstrations@pick_can"]
    assert "80 raw episodes, synthetic" in facts["demonstrations@pick_can"]
    assert "may not be passed on" in facts["egodex"]


def test_a_lock_that_does_not_hold_together_is_seen(tmp_path: Path) -> None:
    lock = read_lock(make_whole(tmp_path / "workspace"))
    assert gaps(rests_on(lock, "gate@pick_can")) == []
    lock["finetune@pick_can"]["deps"][1]["md5"] = "0" * 32
    del lock["egodex"]
    assert [gap.partition(",")[0] for gap in gaps(rests_on(lock, "gate@pick_can"))] == [
        "finetune@pick_can read models/system2 0000000000",
        "prepare_egodex read data/raw/egodex",
    ]
    lock["robot"]["deps"] = [{"path": "gate/pick_can", "md5": "0"}]
    with pytest.raises(Psi0Error, match="rest on each other"):
        rests_on(lock, "gate@pick_can")


def test_diff_tells_what_changed(registered: Registered, tmp_path: Path) -> None:
    client, good, bad, _ = registered
    found = compare_versions(client, good, bad, tmp_path)
    assert [(one.name, one.after) for one in found.parameters] == [("finetune.steps", "700")]
    assert found.data == []
    assert [one.after for one in found.models] == ["version 2", "version 2"]
    assert any("unpaired" in line for line in found.success)
    same = compare_versions(client, good, good, tmp_path)
    assert "paired on 15 common seeds: 0 succeed only after, 0 only before" in same.success[-1]


def test_success_is_compared_as_the_seeds_allow() -> None:
    assert "8 succeed only after, 1 only before (exact McNemar p 0.039)" in paired([0] * 8 + [1], [1] * 8 + [0])
    assert "Boschloo p 1.000" in unpaired([True] * 5, [True] * 9)
    assert "Boschloo p 0.0" in unpaired([True] * 10 + [False] * 10, [True] * 19 + [False])


def test_the_leaderboard_ranks_evidence_and_escapes_it(registered: Registered, tmp_path: Path) -> None:
    client, good, bad, _ = registered
    note(client, bad, git_commit="<script>x</script>", promotion="overridden")
    board = rank(client)
    assert [(one.version, one.counts, one.verdict) for one in board[TASK]] == [
        (good.number, "15 of 15", "pass"),
        (bad.number, "0 of 2", "refuse"),
    ]
    page = write_board(board, tmp_path / "board.html").read_text()
    assert "<script" not in page
    assert "promoted against the rule" in page
    assert 'src="' not in page and "url(" not in page and "@import" not in page
    assert f"models/psi0-pick_can/versions/{good.number}" in page


def test_verbs_choose_and_explain(registered: Registered, use_settings: Callable[..., None], tmp_path: Path) -> None:
    client, good, bad, address = registered
    use_settings(mlflow_uri=address, home=tmp_path)
    run = CliRunner().invoke
    listed = run(app, ["registry", "list"]).stdout
    assert "attempt 2" in listed and "psi0-system1" in listed
    newest = run(app, ["registry", "show"]).stdout
    assert newest.startswith(f"{bad.label}: refuse"), "without a champion it is the newest"
    assert "origins.json" in newest
    assert json.loads(run(app, ["registry", "show", "candidate", "--json"]).stdout)["version"] == good.number
    out = tmp_path / "board.html"
    assert str(out) in run(app, ["registry", "leaderboard", TASK, "--out", str(out)]).stdout
    hand_made = client.create_model_version("psi0-pick_can", source="/somewhere")
    try:
        assert "made by hand" in run(app, ["registry", "show", str(hand_made.version)]).stdout
        refused = run(app, ["lineage", "restore", str(hand_made.version)]).exception
        assert isinstance(refused, Psi0Error) and "has no run" in str(refused)
    finally:
        client.delete_model_version("psi0-pick_can", hand_made.version)


@pytest.fixture
def failing_server() -> Iterator[str]:
    """An MLflow that is healthy and answers 500 to every question."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: aliases(client, TASK),
        lambda client: find_version(client, TASK, "champion"),
        lambda client: list_versions(client, TASK),
        audit,
    ],
    ids=["aliases", "find", "list", "audit"],
)
def test_an_mlflow_that_answers_500_is_not_taken_for_an_empty_one(
    failing_server: str, monkeypatch: pytest.MonkeyPatch, use_settings: Callable[..., None], ask: Callable
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    use_settings(mlflow_uri=failing_server)
    with pytest.raises(Psi0Error, match="MLflow"):
        ask(open_tracking())
