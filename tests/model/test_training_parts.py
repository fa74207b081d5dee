"""The small parts that training stands on: order, augmentation, schedule, history, live metrics."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learnable import tiny_params
from tokenizers import Tokenizer

from psi0.errors import Psi0Error
from psi0.model.prompt import Prompt
from psi0.train import guards, sampler
from psi0.train.augmentation import SAME_COLORS, Augmentation
from psi0.train.frames import check_that_prompts_differ
from psi0.train.history import History
from psi0.train.optimizer import parameter_groups, rate_factor
from psi0.train.watcher import Tracking, Watcher


@given(size=st.integers(1, 60), batch=st.integers(1, 40), seed=st.integers(0, 5))
def test_every_sample_comes_once_per_epoch(size: int, batch: int, seed: int) -> None:
    steps = -(-2 * size // batch)
    order = np.concatenate([sampler.global_batch(size, batch, step, seed) for step in range(steps)])
    assert sorted(order[:size]) == list(range(size)) == sorted(order[size : 2 * size])


def test_order_differs_between_epochs_and_seeds() -> None:
    first, second = (sampler.global_batch(50, 50, step, 7) for step in (0, 1))
    assert (first != second).any() and (first != sampler.global_batch(50, 50, 0, 8)).any()


@given(ranks=st.sampled_from([1, 2, 4]))
def test_ranks_share_the_same_global_batch(ranks: int) -> None:
    whole = sampler.global_batch(100, 8, 3, 0)
    parts = [whole[sampler.share(rank, ranks, 8)] for rank in range(ranks)]
    assert (np.concatenate(parts) == whole).all()


@given(episodes=st.integers(0, 40), part=st.floats(0, 1))
def test_something_is_held_out_and_something_is_left(episodes: int, part: float) -> None:
    chosen = sampler.held_out_episodes(episodes, part, 0)
    if episodes < 2:
        assert not chosen
    else:
        assert 1 <= len(chosen) < episodes and chosen <= set(range(episodes))


def _changed(right: int = 0, down: int = 0, colors: tuple[float, ...] = SAME_COLORS) -> Augmentation:
    return Augmentation(np.array([[right, down]]), np.array([colors], np.float32), np.zeros((1, 32), np.float32))


def test_key_points_move_with_the_image() -> None:
    height, width = 48, 64
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, 20, 30] = 255
    augmentation = _changed(right=3, down=-2)
    (y,), (x,) = np.nonzero(augmentation.images(image)[0, :, :, 0])
    assert (x, y) == (33, 18)
    point = np.array([[[1.0, 2.0, 3.0, 2 * 30 / width - 1, 2 * 20 / height - 1]]], np.float32)
    moved = augmentation.key_points(point, height, width)[0, 0]
    assert moved == pytest.approx([1, 2, 3, 2 * 33 / width - 1, 2 * 18 / height - 1], abs=1e-6)


def test_no_augmentation_leaves_the_image_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    assert (_changed().images(image) == image).all()


def test_color_jitter_changes_colors_within_bytes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    training = tiny_params(finetune={"color_jitter": 0.3, "image_shift": 0}).finetune
    drawn = Augmentation.draw(np.random.default_rng(1), 4, training, 0.0, 32)
    changed = drawn.images(image)
    assert changed.dtype == np.uint8 and (changed != image).any()
    assert (drawn.part(slice(1, 3)).images(image[1:3]) == changed[1:3]).all()


def test_colors_change_as_told() -> None:
    image = np.array([[[[200, 0, 0], [60, 60, 60]], [[0, 90, 30], [0, 0, 210]]]], np.uint8)
    third = 2 * np.pi / 3
    assert _changed(colors=(1, 1, 1, third)).images(image).tolist() == np.roll(image, 1, axis=-1).tolist()
    assert (_changed(colors=(0.5, 1, 1, 0)).images(image) == image // 2).all()
    grey = _changed(colors=(1, 1, 0, 0)).images(image)
    assert np.ptp(grey, axis=-1).max() == 0 and grey[0, 0, 1, 0] == 60 and abs(int(grey[0, 0, 0, 0]) - 60) <= 1
    flat = _changed(colors=(1, 0, 1, 0)).images(image)
    assert np.ptp(flat) == 0


@dataclass
class Said:
    """What a dataset's episodes were told."""

    tasks: tuple[str, ...]
    folder: Path = Path("demonstrations")


def test_instructions_that_are_cut_to_the_same_prompt_are_refused(tokenizer: Tokenizer) -> None:
    said: Any = Said(("Pick up the red can.", "Pick up the blue can."))
    check_that_prompts_differ(said, Prompt(tokenizer, 12, 32))
    check_that_prompts_differ(Said(("Pick up the can.", "pick up the can.")), Prompt(tokenizer, 12, 32))  # type: ignore[arg-type]
    with pytest.raises(Psi0Error, match=r"max_text_tokens 13 cuts 'Pick up the red can\.' and 'Pick up the blue can"):
        check_that_prompts_differ(said, Prompt(tokenizer, 12, 13))


def test_rates_warm_up_and_then_fall_to_zero() -> None:
    training = tiny_params(finetune={"steps": 100, "warmup_steps": 10}).finetune
    factors = [rate_factor(step, training) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0 == max(factors)
    assert factors[100] == pytest.approx(0, abs=1e-6) and all(np.diff(factors[10:]) <= 0)


def test_decay_falls_on_matrices_and_prefixes_have_their_own_rate() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].bias.requires_grad_(False)
    training = tiny_params().finetune
    groups = parameter_groups(module, training, {"0.": 1e-5})
    found = {(group["peak"], group["weight_decay"]): len(group["params"]) for group in groups}
    rate, decay = training.learning_rate, training.weight_decay
    assert found == {(1e-5, decay): 1, (1e-5, 0.0): 1, (rate, decay): 1}


def test_the_sample_that_is_not_finite_is_found() -> None:
    batch = {"state": torch.zeros(3, 4), "text_ids": torch.zeros(3, 2, dtype=torch.int64)}
    batch["state"][1, 2] = float("nan")
    suspects = guards.poisoned(batch, torch.tensor([1.0, 2.0, float("inf")]))
    assert suspects == [1, 2]
    message = guards.describe(41, float("nan"), 1.0, ["a", "b", "c"], suspects)
    assert "loss is not finite at step 41" in message and "b, c" in message and "a," not in message


def test_history_goes_on_from_a_checkpoint_and_fills_its_table(tmp_path: Path) -> None:
    whole, half = History(1000), History(1000)
    for history in (whole, half):
        history.validated(0, {"validation_loss": 9.0})
        for done in range(1, 8):
            history.add(done, {"loss": float(done)})
    resumed = History(1000)
    resumed.load(json.loads(json.dumps(half.to_json())))
    for history in (whole, resumed):
        for done in range(8, 11):
            history.add(done, {"loss": float(done)})
        history.validated(10, {"validation_loss": 3.0})
    assert whole.rows == resumed.rows
    assert whole.rows[1:] == [{"step": 5, "loss": 3.0}, {"step": 10, "loss": 8.0, "validation_loss": 3.0}]
    whole.write(tmp_path)
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "step,loss,validation_loss",
        "0,3.0,9.0",
        "5,3.0,9.0",
        "10,8.0,3.0",
    ]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that takes `log-batch`; yields the bodies it got."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/2.0/mlflow/runs/log-batch"
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_RUN_ID", "run")
    yield bodies
    server.shutdown()
    server.server_close()


def _report(step: int) -> str:
    report = {"step": step, "steps": 20, "due": True, "loss": 0.5, "gradient_norm": 1.0, "learning_rate": 1e-3}
    speed = {"samples_per_second": 100.0, "data_wait_share": 0.01, "seconds_left": 3.0}
    return json.dumps({**report, **speed}) + "\n"


def test_reports_become_lines_and_live_metrics(
    tmp_path: Path, mlflow: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with Watcher("finetune@pick_can", tmp_path / "reports.jsonl"):
        (tmp_path / "reports.jsonl").write_text(json.dumps({"message": "resumed after step 8"}) + "\n" + _report(10))
    said = capsys.readouterr().err
    assert "finetune@pick_can: resumed after step 8" in said
    assert "step 10 of 20, loss 0.5000, 100 samples/s, waiting for data 1%, 3 s left" in said
    sent = {entry["key"]: (entry["value"], entry["step"]) for entry in mlflow[0]["metrics"]}
    assert mlflow[0]["run_id"] == "run" and sent["finetune/loss"] == (0.5, 10)


def test_mlflow_down_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "run")
    tracking = Tracking("finetune")
    for step in range(3):
        tracking.log(step, {"loss": 1.0})
    assert capsys.readouterr().err.count("training goes on without them") == 1
