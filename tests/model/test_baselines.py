"""Baselines: they learn, come out the same twice, survive their folder, and are refused when it is broken."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_world as toy
from learnable import HEIGHT, WIDTH, inside, private_copy, tiny_params, write_dataset

from psi0 import paths
from psi0.baselines.act import ActionChunkingTransformer
from psi0.baselines.config import KINDS, NETWORKS, BaselineConfig, Kind
from psi0.baselines.folder import load_baseline, save_baseline
from psi0.baselines.learning import RegressionObjective
from psi0.baselines.make import make_baseline
from psi0.baselines.nearest import Demonstrations, Matcher
from psi0.baselines.networks import make_network
from psi0.baselines.player import TemporalEnsemble, load_player
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.evaluate.controls import Eyes
from psi0.evaluate.evaluation import pace
from psi0.evaluate.resolve import resolve
from psi0.evaluate.rollout import run_episode
from psi0.files import sha256_folder, write_json
from psi0.model.manifest import write_manifest
from psi0.params import Baselines, Params
from psi0.policy import Observation, Policy
from psi0.robot.layout import ALL_JOINTS, ActionPart
from psi0.robot.limits import LIMITS_FILE, limits_from
from psi0.train.chunks import ChunkSamples

TASK = "pick_can"
TINY = {"hidden_size": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 64, "latent_size": 4}


def small_params(steps: int = 4, **changes: Any) -> Params:
    """Quick and tiny; `changes` are of the block `baselines`."""
    quick = {"steps": steps, "warmup_steps": min(5, steps), "validation_every": steps, "checkpoint_every": 2}
    learning = {"learning_rate": 2e-3, "image_shift": 0, "color_jitter": 0.0, "validation_share": 0.1}
    return tiny_params(finetune={**quick, **learning}, baselines={**TINY, "dropout": 0.0, **changes})


def config(kind: str, height: int = HEIGHT, width: int = WIDTH, **changes: Any) -> BaselineConfig:
    return BaselineConfig(
        kind=kind,
        task=TASK,
        policy_hz=10,
        horizon=8,
        camera_height=height,
        camera_width=width,
        stride=1,
        settings=Baselines.model_validate({**TINY, **changes}),
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations and limits in a workspace, and every kind of baseline made of them in a few steps."""
    root = tmp_path_factory.mktemp("baselines")
    write_dataset(root / paths.prepared_demonstrations(TASK), "demonstrations", episodes=8, rate=10)
    limits = limits_from(dict.fromkeys(ALL_JOINTS, (-3.0, 3.0)), dict.fromkeys(ALL_JOINTS, 9.0))
    write_json(root / paths.ROBOT / LIMITS_FILE, limits.model_dump(mode="json"))
    with inside(root):
        for kind in KINDS:
            make_baseline(small_params(), TASK, kind, paths.baseline(TASK, kind))
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A private copy, without checkpoints, as current folder."""
    with private_copy(prepared, tmp_path) as root:
        yield root


def seen(image: np.ndarray, state: np.ndarray | None = None, step: int = 0, delay: int = 0) -> Observation:
    return Observation(image, np.zeros(32, np.float32) if state is None else state, "", step, None, delay)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (80, 144), (45, 70)])
def test_networks_take_images_of_any_size(kind: str, height: int, width: int) -> None:
    network = make_network(config(kind, height, width), seed=1)
    images = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8)
    assert network(images, torch.zeros(3, 32)).shape == (3, 8, 36)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_seed_decides_the_weights_and_leaves_other_noise_alone(kind: str) -> None:
    state = torch.get_rng_state()
    first, again, other = (make_network(config(kind), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_style_counts_in_training_alone() -> None:
    network = make_network(config("act", dropout=0.0), seed=1)
    assert isinstance(network, ActionChunkingTransformer)
    images, state = torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8), torch.zeros(2, 32)
    latent = torch.ones(2, TINY["latent_size"])
    assert not torch.allclose(network(images, state), network(images, state, latent))
    assert torch.equal(network(images, state), network(images, state, 0 * latent))
    batch = {"images": images, "state": state, "actions": torch.rand(2, 8, 36), "action_mask": torch.ones(2, 1, 36)}
    objective = RegressionObjective(network, kl_weight=10.0)
    trained = objective.train()(batch, torch.Generator().manual_seed(0))
    held_out = objective.eval()(batch, torch.Generator().manual_seed(0))
    assert torch.allclose(trained["loss"], trained["l1_loss"] + 10 * trained["kl_divergence"])
    assert torch.equal(held_out["loss"], held_out["l1_loss"]) and "kl_divergence" not in held_out
    again = objective.eval()(batch | {"actions": batch["actions"] + 0}, torch.Generator().manual_seed(5))
    assert torch.equal(again["loss"], held_out["loss"]), "acting draws nothing"


def test_numbers_that_do_not_count_are_not_learned() -> None:
    objective = RegressionObjective(make_network(config("bc"), seed=1), kl_weight=10.0)
    mask = torch.ones(2, 1, 36)
    mask[..., 5:] = 0
    batch = {
        "images": torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8),
        "state": torch.zeros(2, 32),
        "actions": torch.zeros(2, 8, 36),
        "action_mask": mask,
    }
    whole = objective(batch, torch.Generator())
    batch["actions"] = batch["actions"] + 100 * (1 - mask)
    assert torch.equal(objective(batch, torch.Generator())["loss"], whole["loss"])


@pytest.mark.parametrize(("kind", "steps"), [("bc", 120), ("act", 120)])
def test_networks_learn_from_the_image(workspace: Path, kind: Kind, steps: int) -> None:
    found = make_baseline(small_params(steps), TASK, kind, Path("made"))
    assert found["steps"] == steps and found["validation_l1_loss"] == found["validation_loss"]
    assert found["validation_loss"] < 0.6 * found["validation_loss_start"]
    # Only the image tells where the square is.
    assert found["action_error"] < 0.8 * found["state_only_error"]


def test_a_network_overfits_a_few_samples(workspace: Path) -> None:
    params = small_params()
    dataset = LeRobotDataset(paths.prepared_demonstrations(TASK))
    samples = ChunkSamples("toy", dataset, params.finetune, params.control, prompt=None)
    samples.normalizer = samples.fit_bounds(params.finetune.minimum_range)
    batch = samples.batch(samples.training[:40:10], None)
    assert "text_ids" not in batch, "nothing reads an instruction"
    for kind in NETWORKS:
        objective = RegressionObjective(make_network(config(kind, dropout=0.0), 1), kl_weight=1.0).train()
        optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(100):
            optimizer.zero_grad()
            objective(batch, generator)["loss"].backward()
            optimizer.step()
        assert objective.eval()(batch, generator)["loss"].item() < 0.1, kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_inputs_leave_the_same_bytes(workspace: Path, prepared: Path, kind: str) -> None:
    make_baseline(small_params(), TASK, kind, Path("again"))
    assert sha256_folder(Path("again")) == sha256_folder(prepared / paths.baseline(TASK, kind))


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_stopped_training_goes_on_and_leaves_the_same_bytes(workspace: Path, prepared: Path) -> None:
    steps = []

    def stop(done: int) -> None:
        steps.append(done)
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        make_baseline(small_params(), TASK, "bc", Path("again"), after_step=stop)
    assert not Path("again").exists()
    make_baseline(small_params(), TASK, "bc", Path("again"), after_step=steps.append)
    assert steps == [1, 2, 3, 3, 4]
    assert sha256_folder(Path("again")) == sha256_folder(prepared / paths.baseline(TASK, "bc"))


def test_averaging_chunks_needs_no_new_training(workspace: Path) -> None:
    steps: list[int] = []
    for averages in (False, True):
        params = small_params(temporal_ensemble=averages)
        make_baseline(params, TASK, "act", Path("again"), after_step=steps.append)
    assert steps == [1, 2, 3, 4] and load_baseline(Path("again")).config.settings.temporal_ensemble


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(prepared: Path, tmp_path: Path, kind: str) -> None:
    folder = prepared / paths.baseline(TASK, kind)
    known = load_baseline(folder)
    save_baseline(tmp_path / "again", known)
    again = load_baseline(tmp_path / "again")
    assert again.config == known.config and again.layout == known.layout and again.lineage == known.lineage
    assert all(torch.equal(again.tensors[name], value) for name, value in known.tensors.items())
    for name in ("baseline.safetensors", "baseline.json", "normalizer.json", "layout.json", "manifest.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert set(known.lineage.data) == {"demonstrations", "limits"}


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared / paths.baseline(TASK, "act"), tmp_path / "copy"))


@pytest.mark.parametrize("name", ["baseline.safetensors", "baseline.json", "normalizer.json", "layout.json"])
def test_a_flipped_byte_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(Psi0Error, match=name):
        load_baseline(copy)
    with pytest.raises(Psi0Error, match=name):
        resolve(str(copy), 8)


@pytest.mark.parametrize("name", ["manifest.json", "baseline.json", "normalizer.json", "layout.json"])
def test_another_schema_version_is_refused(copy: Path, name: str) -> None:
    content = json.loads((copy / name).read_text()) | {"schema_version": 99}
    (copy / name).write_text(json.dumps(content))
    if name != "manifest.json":
        write_manifest(copy, policy_sha256="0" * 64)
    with pytest.raises(Psi0Error, match=rf"{name}.*schema_version 99"):
        load_baseline(copy)


def test_weights_of_another_kind_are_refused(copy: Path, prepared: Path) -> None:
    for kind, words in (("bc", "does not fit"), ("nearest", "does not fit")):
        shutil.copy(prepared / paths.baseline(TASK, kind) / "baseline.safetensors", copy)
        write_manifest(copy, policy_sha256="0" * 64)
        with pytest.raises(Psi0Error, match=words):
            load_player(copy)
    content = json.loads((copy / "baseline.json").read_text()) | {"kind": "nearest"}
    (copy / "baseline.json").write_text(json.dumps(content))
    shutil.copy(prepared / paths.baseline(TASK, "act") / "baseline.safetensors", copy)
    write_manifest(copy, policy_sha256="0" * 64)
    with pytest.raises(Psi0Error, match="does not hold demonstrations"):
        load_player(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_is_resolved_by_its_path_and_thinks(prepared: Path, kind: str) -> None:
    folder = prepared / paths.baseline(TASK, kind)
    spec = resolve(str(folder), 16)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (spec.kind, spec.sha256, spec.thinks, spec.privileged) == (kind, manifest["policy_sha256"], True, False)
    assert pace(Params(), spec).delay == 2
    made = spec(toy.ToyWorld())
    assert isinstance(made, Policy) and not made.privileged
    made.reset(1)
    image = LeRobotDataset(prepared / paths.prepared_demonstrations(TASK)).images([0])[0]
    first = made.act(seen(image))
    made.reset(2)
    assert first.shape == (8, 36) and first.dtype == np.float32 and np.array_equal(made.act(seen(image)), first)
    layout = load_baseline(folder).layout
    assert np.array_equal(layout.within_limits(first), first)


class ToyCamera(toy.ToyWorld):
    """The toy world through a camera of the size that the baselines know."""

    def head_camera(self) -> np.ndarray:
        return np.ascontiguousarray(np.broadcast_to(super().head_camera()[:1, :1], (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_baselines_act_in_the_toy_world(prepared: Path, kind: str) -> None:
    spec = resolve(str(prepared / paths.baseline(TASK, kind)), 16)
    world = ToyCamera()
    rows = [run_episode(world, spec(world), Eyes(), 700_001, pace(small_params(), spec)).row for _ in range(2)]
    assert rows[0] == rows[1] and rows[0].steps > 0 and rows[0].tag in ("success", "not_reached")
    other_size = run_episode(toy.ToyWorld(), spec(world), Eyes(), 700_001, pace(small_params(), spec))
    assert other_size.row.tag == "policy_error" and "knows images of" in other_size.detail


def test_the_nearest_demonstration_is_replayed_from_when_it_can_be(prepared: Path) -> None:
    dataset = LeRobotDataset(prepared / paths.prepared_demonstrations(TASK))
    made = load_baseline(prepared / paths.baseline(TASK, "nearest"))
    demonstrations = Demonstrations.from_tensors(made.tensors)
    start, last = int(demonstrations.rows[2]), int(demonstrations.last_rows[2])
    actions, states = made.layout.within_limits(dataset.column("action")), dataset.column("observation.state")
    policy = load_player(prepared / paths.baseline(TASK, "nearest"))
    policy.reset(0)
    first = policy.act(seen(dataset.images([start])[0], states[start], step=0, delay=2))
    np.testing.assert_allclose(first[2:], actions[start : start + 6], atol=1e-6)
    np.testing.assert_allclose(first[:2], actions[[start, start]], atol=1e-6)
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    later = policy.act(seen(blank, step=7))
    np.testing.assert_allclose(later, actions[start + 5 : start + 13], atol=1e-6)
    beyond = policy.act(seen(blank, step=1000))
    assert (beyond[:, ActionPart.VELOCITY] == 0).all()
    np.testing.assert_allclose(beyond[:, ActionPart.UPPER_BODY], [actions[last, ActionPart.UPPER_BODY]] * 8, atol=1e-6)


def test_matching_again_follows_what_is_seen(prepared: Path) -> None:
    dataset = LeRobotDataset(prepared / paths.prepared_demonstrations(TASK))
    folder = prepared / paths.baseline(TASK, "nearest_rematch")
    made, policy = load_baseline(folder), load_player(folder)
    demonstrations = Demonstrations.from_tensors(made.tensors)
    policy.reset(0)
    for moment, step in ((3, 0), (len(demonstrations.rows) // 2, 4)):
        row = int(demonstrations.rows[moment])
        found = policy.act(seen(dataset.images([row])[0], dataset.column("observation.state")[row], step, delay=2))
        np.testing.assert_allclose(found, made.layout.within_limits(dataset.column("action")[row : row + 8]), atol=1e-6)


def test_distances_weigh_pictures_and_states_as_said() -> None:
    pictures = np.array([[[[0, 0, 0]]], [[[200, 200, 200]]]], np.uint8)
    states = np.zeros((2, 32), np.float32)
    states[0] = 0.5
    made = Demonstrations(pictures, states, np.arange(2), np.arange(2), np.zeros((2, 36), np.float32))
    # Pixels are 2 deviations apart: squared distances 0 and 4. States: 0.25 and 0.
    image, state = np.zeros((4, 4, 3), np.uint8), np.zeros(32, np.float32)
    assert Matcher(made, 1.0)(image, state) == 0
    assert Matcher(made, 15.9)(image, state) == 0 and Matcher(made, 16.1)(image, state) == 1
    blind = Demonstrations(np.zeros((2, 0, 0, 3), np.uint8), *list(vars(made).values())[1:])
    assert Matcher(blind, 1.0)(image, state) == 1


def test_the_ensemble_averages_all_chunks_of_a_step() -> None:
    ensemble = TemporalEnsemble(decay=np.log(2))
    first, second = np.full((4, 1), 3.0, np.float32), np.zeros((4, 1), np.float32)
    assert np.array_equal(ensemble.add(0, first), first)
    # The older chunk reaches two steps into the newer one and weighs twice as much.
    np.testing.assert_allclose(ensemble.add(2, second)[:, 0], [2, 2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(ensemble.add(9, first)[:, 0], [3, 3, 3, 3])


def test_a_loss_that_is_not_finite_is_refused_with_its_step(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RegressionObjective, "forward", _poisoned(RegressionObjective.forward))
    with pytest.raises(Psi0Error, match=r"loss is not finite at step 0.*demonstrations of pick_can episode"):
        make_baseline(small_params(), TASK, "bc", Path("again"))
    assert not Path("again").exists()


def _poisoned(forward: Any) -> Any:
    def answer(self: RegressionObjective, batch: Any, generator: torch.Generator) -> Any:
        found = forward(self, batch, generator)
        return {name: value * float("nan") for name, value in found.items()} if self.training else found

    return answer


def test_what_cannot_be_made_is_said_with_its_remedy(workspace: Path) -> None:
    with pytest.raises(Psi0Error, match=r"--steps 0: at least 1"):
        make_baseline(small_params(), TASK, "bc", Path("again"), steps=0)
    with pytest.raises(Psi0Error, match=r"open_drawer is missing; `dvc repro prepare_demonstrations@open_drawer`"):
        make_baseline(small_params(), "open_drawer", "bc", Path("again"))
    with pytest.raises(Psi0Error, match="did you mean 'pick_can'"):
        make_baseline(small_params(), "pick_cann", "bc", Path("again"))
    other = small_params().model_copy(update={"camera": Params().camera})
    with pytest.raises(Psi0Error, match=r"images of 64 x 48 pixels, params\.camera says"):
        make_baseline(other, TASK, "bc", Path("again"))
    (workspace / paths.ROBOT / LIMITS_FILE).unlink()
    with pytest.raises(Psi0Error, match=r"limits\.json is missing"):
        make_baseline(small_params(), TASK, "nearest", Path("again"))
