"""Exported graphs: the same numbers as torch, the same bytes twice, no torch at run time, engines compile."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from psi0.errors import Psi0Error
from psi0.export.engine.build import build_engine, read_record
from psi0.export.engine.targets import engine_key
from psi0.export.interface import GRAPHS, INPUTS
from psi0.export.parity import load_golden, policy_errors
from psi0.export.runtime import GraphPolicy
from psi0.export.stage import export_folder
from psi0.files import read_json, sha256_folder
from psi0.model import manifest
from psi0.model.policy_folder import PolicyFolder
from psi0.params import Export
from psi0.policy import Observation, Policy

FOREIGN = ("torch", "transformers", "ray", "deepspeed", "mujoco", "onnx", "safetensors", "scipy")


@pytest.fixture(scope="module")
def graphs(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs") / "pick_can"
    export_folder(policy_folder, folder, Export())
    return folder


@pytest.fixture
def player(graphs: Path) -> GraphPolicy:
    return GraphPolicy(graphs)


def observe(delay: int = 0, previous: np.ndarray | None = None, **changes: object) -> Observation:
    draw = np.random.default_rng(5)
    seen = {
        "head_camera": draw.integers(0, 256, (48, 64, 3), dtype=np.uint8),
        "state": draw.normal(0, 0.3, 32).astype(np.float32),
        "instruction": "pick up the can",
        "step": 4,
        "previous_chunk": previous,
        "delay": delay,
    }
    return Observation(**(seen | changes))  # type: ignore[arg-type]


def test_parity_with_torch(graphs: Path) -> None:
    report = read_json(graphs / "parity.json")
    assert report["passed"] and report["max_abs_error"]["actions"] <= 1e-4
    golden = load_golden(graphs)
    assert any(item.observation.previous_chunk is not None and item.observation.delay > 0 for item in golden)
    assert max(policy_errors(GraphPolicy(graphs), golden)) <= 1e-4


def test_a_difference_to_torch_stops_the_stage(policy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match="max_abs_error"):
        export_folder(policy_folder, tmp_path / "graphs", Export(max_abs_error=1e-12))
    assert not (tmp_path / "graphs").exists()


def test_exporting_twice_gives_the_same_bytes(graphs: Path, policy_folder: Path, tmp_path: Path) -> None:
    export_folder(policy_folder, tmp_path / "again", Export())
    assert sha256_folder(tmp_path / "again") == sha256_folder(graphs)


def test_graphs_are_static_and_tell_nothing_of_this_machine(graphs: Path) -> None:
    here = str(Path(__file__).parents[2]).encode()
    for name in GRAPHS:
        assert here not in (graphs / f"{name}.onnx").read_bytes()
        model = onnx.load(str(graphs / f"{name}.onnx"))
        assert model.opset_import[0].version == 20
        for value in [*model.graph.input, *model.graph.output]:
            assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim)


def test_runs_without_torch(graphs: Path) -> None:
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FOREIGN!r}:
            raise ImportError(name + " must not be imported here")
sys.meta_path.insert(0, Refuse())
from pathlib import Path
import numpy as np
from psi0.export.runtime import GraphPolicy
from psi0.policy import Observation
policy = GraphPolicy(Path({str(graphs)!r}))
policy.reset(1)
seen = Observation(np.zeros((96, 128, 3), np.uint8), np.zeros(32, np.float32), "pick up the can", 0, None, 0)
print(policy.act(seen).shape)
print(sorted(set(m.split(".")[0] for m in sys.modules) & set({FOREIGN!r})))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split("\n")[:2] == ["(8, 36)", "[]"]


def test_is_a_policy_with_seeded_noise(player: GraphPolicy, policy: PolicyFolder) -> None:
    assert isinstance(player, Policy) and not player.privileged
    player.reset(7)
    first, second = player.act(observe()), player.act(observe())
    player.reset(7)
    assert np.array_equal(player.act(observe()), first) and not np.array_equal(first, second)
    assert first.shape == (policy.config.horizon, 36) and first.dtype == np.float32
    assert player.key_points is not None and player.key_points.shape == (2, 5)


def test_the_chunk_goes_on_from_promised_actions(player: GraphPolicy, policy: PolicyFolder) -> None:
    scale = policy.normalizer.action
    previous = scale.denormalize(np.random.default_rng(0).uniform(-1, 1, (6, 36)))
    player.reset(0)
    chunk = player.act(observe(2, previous))
    np.testing.assert_allclose(chunk[:2], previous[:2], atol=1e-6)
    player.reset(0)
    free = player.act(observe(0, previous))
    assert not np.allclose(free[:2], previous[:2]) and not np.allclose(free[2:], chunk[2:])


@pytest.mark.parametrize("delay", [-1, 0, 1, 3, 4, 8, 100])
@pytest.mark.parametrize("rest", [None, 0, 1, 8, 20])
def test_no_delay_is_refused(player: GraphPolicy, policy: PolicyFolder, delay: int, rest: int | None) -> None:
    scale = policy.normalizer.action
    previous = None if rest is None else np.tile(scale.center.astype(np.float32), (rest, 1))
    player.reset(0)
    chunk = player.act(observe(delay, previous))
    assert np.isfinite(chunk).all() and (chunk >= scale.low).all() and (chunk <= scale.high).all()
    kept = max(0, min(delay, policy.config.max_delay - 1, rest or 0))
    if previous is not None:
        np.testing.assert_allclose(chunk[:kept], previous[:kept], atol=1e-6)


def test_a_broken_promise_is_dropped(player: GraphPolicy) -> None:
    player.reset(0)
    assert np.isfinite(player.act(observe(2, np.full((6, 36), np.nan, np.float32)))).all()


def test_actions_stay_within_the_limits(graphs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(graphs, tmp_path / "copy"))
    layout = read_json(copy / "layout.json") | {"action_low": [-0.01] * 36, "action_high": [0.02] * 36}
    (copy / "layout.json").write_text(json.dumps(layout))
    manifest.write_manifest(copy, policy_sha256="0" * 64)
    chunk = GraphPolicy(copy).act(observe())
    assert chunk.min() >= np.float32(-0.01) and chunk.max() <= np.float32(0.02)


def test_changed_graphs_are_refused(graphs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(graphs, tmp_path / "copy"))
    content = bytearray((copy / "s1_step.onnx").read_bytes())
    content[-100] ^= 1
    (copy / "s1_step.onnx").write_bytes(content)
    with pytest.raises(Psi0Error, match=r"s1_step\.onnx"):
        GraphPolicy(copy)


def test_graphs_with_other_inputs_are_refused(graphs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(graphs, tmp_path / "copy"))
    model = onnx.load(str(copy / "s1_step.onnx"))
    (renamed,) = (value for value in model.graph.input if value.name == "late")
    renamed.name = "time"
    for node in model.graph.node:
        node.input[:] = ["time" if name == "late" else name for name in node.input]
    onnx.save(model, str(copy / "s1_step.onnx"))
    manifest.write_manifest(copy, policy_sha256="0" * 64)
    with pytest.raises(Psi0Error, match=r"s1_step\.onnx takes actions, step, time, .*export the policy again.*bundle"):
        GraphPolicy(copy)


def test_the_step_holds_what_a_schedule_decides_and_not_the_layers_that_decide_it(
    graphs: Path, policy: PolicyFolder
) -> None:
    held = {tuple(tensor.dims): tensor for tensor in onnx.load(str(graphs / "s1_step.onnx")).graph.initializer}
    size, rows = policy.system1.config.hidden_size, policy.config.euler_steps + 1
    assert not held.keys() & {(6 * size, size), (size, 6 * size)}
    # Two blocks and the output: shift, scale and gate twice per block, shift and scale at the end.
    assert (rows, (2 * 6 + 2) * size) in held
    names = [value.name for value in onnx.load(str(graphs / "s1_step.onnx")).graph.input]
    assert tuple(names) == INPUTS["s1_step"]


def test_engines_compile_without_a_gpu(graphs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    record = build_engine(graphs, "rtx-portable", tmp_path / "a")
    assert record.status == "compiled" and set(record.engines) == set(GRAPHS)
    assert record.policy_sha256 == read_json(graphs / "manifest.json")["policy_sha256"]
    again = build_engine(graphs, "rtx-portable", tmp_path / "b")
    assert [engine.key for engine in again.engines.values()] == [engine.key for engine in record.engines.values()]
    assert read_record(tmp_path / "a") == record
    (tmp_path / "a" / "s1_step.engine").write_bytes(b"")
    with pytest.raises(Psi0Error, match=r"s1_step\.engine"):
        read_record(tmp_path / "a")


def test_other_targets_name_the_command(graphs: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(graphs, bundle / "graphs")
    for target in ("orin-nx", "local"):
        answer = subprocess.run(
            [sys.executable, "-m", "psi0.cli", "engine", "build", "--bundle", bundle, "--target", target],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert answer.returncode != 0
        assert "trtexec --onnx=" in answer.stderr or "GPU" in answer.stderr
        assert not (tmp_path / "build").exists()
    with pytest.raises(Psi0Error, match="rtx-portable"):
        build_engine(graphs, "rtx-portble", tmp_path / "engines")


def test_changed_graphs_get_no_engine(graphs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(graphs, tmp_path / "copy"))
    content = json.loads((copy / "normalizer.json").read_text())
    (copy / "normalizer.json").write_text(json.dumps(content | {"more": 1}))
    with pytest.raises(Psi0Error, match=r"normalizer\.json"):
        build_engine(copy, "rtx-portable", tmp_path / "engines")
    with pytest.raises(Psi0Error, match="no exported graphs"):
        build_engine(tmp_path, "rtx-portable", tmp_path / "engines")


def test_a_graph_that_tensorrt_cannot_read_is_named(graphs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    copy = Path(shutil.copytree(graphs, tmp_path / "copy"))
    (copy / "s2_vision.onnx").write_bytes(b"not a graph")
    manifest.write_manifest(copy, policy_sha256="0" * 64)
    with pytest.raises(Psi0Error, match=r"s2_vision\.onnx"):
        build_engine(copy, "rtx-portable", tmp_path / "engines")
    assert not (tmp_path / "engines").exists()


def test_an_engine_key_depends_on_everything_it_names() -> None:
    keys = {
        engine_key("a", "8.7", "10.3", "float32"),
        engine_key("b", "8.7", "10.3", "float32"),
        engine_key("a", "8.9", "10.3", "float32"),
        engine_key("a", "8.7", "10.4", "float32"),
        engine_key("a", "8.7", "10.3", "float16"),
    }
    assert len(keys) == 5
