"""Test-time RTC: the guided sampler goes on from what was promised, whatever the delay, in torch and as graphs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.export.engine.build import build_engine
from psi0.export.runtime import GraphPolicy
from psi0.export.stage import export_folder
from psi0.files import read_json
from psi0.model import euler, guidance
from psi0.model.policy_folder import PolicyFolder, load_policy, save_policy
from psi0.model.torch_policy import TorchPolicy
from psi0.params import Export
from psi0.policy import Observation

LARGEST = 5.0


def guided(policy: PolicyFolder, largest: float = LARGEST) -> PolicyFolder:
    return dataclasses.replace(policy, config=policy.config.model_copy(update={"guidance": largest}))


def observe(policy: PolicyFolder, delay: int, rest: int | None) -> Observation:
    draw = np.random.default_rng(3)
    image = draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    previous = None if rest is None else policy.normalizer.action.denormalize(draw.uniform(-1, 1, (rest, 36)))
    return Observation(image, np.zeros(32, np.float32), "pick up the can", 4, previous, delay)


def chunk(policy: PolicyFolder, observation: Observation, seed: int = 0) -> NDArray[np.float32]:
    player = TorchPolicy(policy)
    player.reset(seed)
    return player.act(observation)


def test_the_soft_mask_falls_from_what_is_executed_to_what_was_never_promised() -> None:
    mask = guidance.soft_mask(delay=2, rest=6, horizon=8)
    assert mask[:2].tolist() == [1, 1] and mask[6:].tolist() == [0, 0]
    assert (np.diff(mask[1:7]) < 0).all()
    left = (6 - 2) / (6 - 2 + 1)
    assert mask[2] == pytest.approx(left * (np.e**left - 1) / (np.e - 1))
    assert guidance.soft_mask(8, 8, 8).tolist() == [1] * 8 and guidance.soft_mask(0, 0, 8).tolist() == [0] * 8


def test_the_pull_is_clipped_where_the_paper_s_weight_grows_without_bound() -> None:
    assert guidance.strength(1.0, LARGEST) == LARGEST and guidance.strength(1e-3, LARGEST) == LARGEST
    # At t = 0.5: (1 - t) / (t r^2) with r^2 = 0.25 / 0.5.
    assert guidance.strength(0.5, LARGEST) == pytest.approx(2.0)
    assert guidance.strength(0.25, LARGEST) == pytest.approx(0.25 / (0.75 * (0.0625 / (0.5625 + 0.0625))))


def test_no_guidance_is_the_plain_sampler(policy: PolicyFolder) -> None:
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((1, 8, 36), dtype=np.float32)
    levels = euler.schedule(4)

    def velocity(actions: NDArray[np.float32], step: int, late: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tanh(actions) * levels[step] * late[..., None]

    promised = guidance.Promise(np.ones((1, 8, 36), np.float32), np.ones((1, 8, 1), np.float32))
    late = np.ones((1, 8), np.float32)
    found = guidance.sample_guided(lambda a, s, p: (velocity(a, s, late), p.target - a), noise, levels, promised, 0.0)
    assert np.array_equal(found, euler.sample(velocity, noise, levels))
    # A weight of next to nothing hardly moves the policy's answer from that without any prefix.
    free = chunk(policy, observe(policy, 0, 6))
    np.testing.assert_allclose(chunk(guided(policy, 1e-7), observe(policy, 3, 6)), free, atol=1e-4)


def test_a_policy_without_guidance_keeps_the_bytes_of_its_configuration(policy: PolicyFolder, tmp_path: Path) -> None:
    save_policy(tmp_path / "plain", policy)
    assert "guidance" not in read_json(tmp_path / "plain/config.json")
    save_policy(tmp_path / "guided", guided(policy))
    assert load_policy(tmp_path / "guided").config.guidance == LARGEST


@pytest.mark.parametrize("delay", [1, 3, 6])
def test_what_was_promised_is_kept_more_closely(policy: PolicyFolder, delay: int) -> None:
    seen = observe(policy, delay, 6)
    assert seen.previous_chunk is not None
    scale = policy.normalizer.action
    wanted = scale.normalize(seen.previous_chunk[:delay])

    def distance(answer: NDArray[np.float32]) -> float:
        return float(np.abs(scale.normalize(answer[:delay]) - wanted).mean())

    fine = guided(policy)
    fine = dataclasses.replace(fine, config=fine.config.model_copy(update={"euler_steps": 8}))
    free = dataclasses.replace(fine, config=fine.config.model_copy(update={"guidance": 0.0, "max_delay": 0}))
    assert distance(chunk(fine, seen)) < 0.5 * distance(chunk(free, seen))


@pytest.mark.parametrize("rest", [None, 0, 1, 5, 8, 20])
@pytest.mark.parametrize("delay", [-1, *range(9), 100])
def test_no_delay_is_refused(policy: PolicyFolder, delay: int, rest: int | None) -> None:
    scale = policy.normalizer.action
    answer = chunk(guided(policy), observe(policy, delay, rest))
    assert answer.shape == (8, 36) and np.isfinite(answer).all()
    assert (answer >= scale.low).all() and (answer <= scale.high).all()
    if not rest:
        assert np.array_equal(answer, chunk(policy, observe(policy, 0, None)))


def test_a_broken_promise_is_dropped(policy: PolicyFolder) -> None:
    seen = observe(policy, 2, 6)
    assert seen.previous_chunk is not None
    seen.previous_chunk[3] = np.nan
    assert np.array_equal(chunk(guided(policy), seen), chunk(policy, observe(policy, 0, None)))


@pytest.fixture(scope="module")
def graphs(policy: PolicyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guided")
    save_policy(folder / "policy", guided(policy))
    export_folder(folder / "policy", folder / "graphs", Export())
    return folder / "graphs"


def test_the_graphs_hold_the_backward_pass(graphs: Path, policy: PolicyFolder) -> None:
    report = json.loads((graphs / "parity.json").read_text())
    assert report["max_abs_error"]["s1_guided"] <= 1e-4 and report["max_abs_error"]["actions"] <= 1e-4
    player = GraphPolicy(graphs)
    for delay in (0, 2, 8):
        player.reset(0)
        seen = observe(policy, delay, 6)
        np.testing.assert_allclose(player.act(seen), chunk(guided(policy), seen), atol=1e-4)


def test_graphs_without_it_are_refused(graphs: Path) -> None:
    content = (graphs / "s1_guided.onnx").read_bytes()
    (graphs / "s1_guided.onnx").unlink()
    with pytest.raises(Psi0Error, match=r"s1_guided\.onnx"):
        GraphPolicy(graphs)
    (graphs / "s1_guided.onnx").write_bytes(content)


def test_tensorrt_takes_the_backward_pass(graphs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    assert "s1_guided" in build_engine(graphs, "rtx-portable", tmp_path / "engines").engines
