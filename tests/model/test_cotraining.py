"""Stage 2 with both networks learning at once: what it is shown, what it optimises, what it leaves to stage 3."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learnable import private_copy, quick_chunks, quick_workspace, tiny_params
from safetensors.torch import load_file
from two_ranks import train_on_two_ranks

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.evaluate.origin import read_origin
from psi0.files import read_json, sha256_folder, write_json
from psi0.lineage import fingerprint_folder, read_lineage
from psi0.model.manifest import check_manifest
from psi0.model.system2 import System2
from psi0.params import Params
from psi0.train import stage
from psi0.train.augmentation import SAME_COLORS, Augmentation
from psi0.train.cotraining import TOKENS, Cotraining, PairSamples
from psi0.train.next_tokens import TokenSamples
from psi0.train.worker import train_here

FEW = {"steps": 6, "warmup_steps": 1, "validation_every": 3, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_workspace(tmp_path_factory.mktemp("prepared")) as root:
        yield root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Iterator[Path]:
    """A private copy of the workspace, in which stages 1 and 2 have run as usual, as current folder."""
    with private_copy(prepared, tmp_path) as root:
        yield root


def params(cotrain: bool = True, **fields: Any) -> Params:
    return tiny_params(posttrain=quick_chunks(**(FEW | {"cotrain": cotrain} | fields)), finetune=quick_chunks(**FEW))


def recipe(**fields: Any) -> Cotraining:
    return Cotraining(
        params(**fields), paths.SYSTEM2, paths.PREPARED_HUMANOID_EVERYDAY, paths.TOKENIZER, paths.PREPARED_EGODEX
    )


def pairs(own: Cotraining) -> PairSamples:
    samples = own.phases[0].samples
    assert isinstance(samples, PairSamples)
    return samples


def named(own: Cotraining, words: str) -> tuple[TokenSamples, np.ndarray]:
    """The dataset, and the row in it, of `egodex episode 1 frame 2`."""
    name, _, episode, _, frame = words.split()
    (samples,) = (one for one in own.tokens if one.name == name)
    return samples, np.array([samples.dataset.episodes[int(episode)][0] + int(frame)])


def test_an_epoch_shows_every_token_sample_of_both_datasets_once_and_every_chunk(workspace: Path) -> None:
    own = recipe()
    samples = pairs(own)
    tokens = sorted(f"{one.name} {row}" for one in own.tokens for row in one.training)
    assert len(samples.training) == len(tokens) > len(own.samples.training)
    said = [samples.describe(int(row)) for row in samples.training]
    assert sorted(words.split(" beside ")[1] for words in said) == sorted(
        one.describe(int(row)) for one in own.tokens for row in one.training
    )
    assert {words.split(" beside ")[0] for words in said} == {
        own.samples.describe(int(r)) for r in own.samples.training
    }


def test_what_is_held_out_is_held_out_of_both_halves(workspace: Path) -> None:
    samples = pairs(recipe())

    def episodes(rows: np.ndarray) -> set[str]:
        halves = [half for row in rows for half in samples.describe(int(row)).split(" beside ")]
        return {half.partition(" frame")[0] for half in halves}

    assert not set(samples.training) & set(samples.held_out)
    assert not episodes(samples.training) & episodes(samples.held_out)
    assert {words.partition(" ")[0] for words in episodes(samples.held_out)} == {"egodex", "humanoid_everyday"}


def test_a_batch_is_a_function_of_its_rows(workspace: Path) -> None:
    own = recipe()
    rows = pairs(own).training[[5, 70, 3, 41]]
    batch, again = pairs(own).batch(rows, None), pairs(recipe()).batch(rows[::-1].copy(), None)
    assert set(batch) == {
        *("images", "text_ids", "text_mask", "state", "actions", "action_mask"),
        *(TOKENS + name for name in ("images", "text_ids", "text_mask", "labels")),
    }
    assert all(torch.equal(value, again[name].flip(0)) for name, value in batch.items())
    # Each half is what its own samples give.
    for place, row in enumerate(rows):
        chunk, token = (named(own, half) for half in pairs(own).describe(int(row)).split(" beside "))
        alone = token[0].batch(token[1], None)
        assert torch.equal(batch[TOKENS + "images"][place], alone["images"][0])
        length = alone["labels"].shape[1]
        assert torch.equal(batch[TOKENS + "labels"][place, :length], alone["labels"][0])
        assert not batch[TOKENS + "text_mask"][place, length:].any()
        assert torch.equal(batch["actions"][place], own.samples.batch(chunk[1], None)["actions"][0])


def test_both_images_are_augmented(workspace: Path) -> None:
    own = recipe()
    rows = pairs(own).training[[5, 70]]
    moved = Augmentation(
        np.array([[3, 0], [0, 2]]), np.array([SAME_COLORS] * 2, np.float32), np.zeros((2, 32), np.float32)
    )
    plain, changed = pairs(own).batch(rows, None), pairs(own).batch(rows, moved)
    for name in ("images", TOKENS + "images"):
        assert torch.equal(changed[name][0, :, 3:], plain[name][0, :, :-3])
        assert torch.equal(changed[name][1, 2:], plain[name][1, :-2])


def test_the_loss_is_that_of_both_and_reaches_both(workspace: Path) -> None:
    own = recipe(next_token_loss=0.25)
    batch = pairs(own).batch(pairs(own).training[:8], None)
    found = own.objective(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["loss"], found["flow_loss"] + 0.25 * found["next_token_loss"])
    assert found["per_sample"].shape == (8,) and 0 <= found["token_accuracy"] <= 1
    found["flow_loss"].backward(retain_graph=True)
    first = own.system2.qwen.model.language_model.layers[0].mlp.up_proj.weight
    assert first.grad is not None and first.grad.abs().sum() > 0, "System-2 learns from actions"
    alone = first.grad.clone()
    own.objective.zero_grad()
    found["loss"].backward()
    assert not torch.equal(first.grad, alone)
    assert all(value.grad is not None for value in own.objective.parameters() if value.requires_grad)


def test_the_stage_leaves_both_networks_and_stage_3_goes_on_from_both(workspace: Path) -> None:
    before = load_file("models/system2/system2.safetensors")
    stage.posttrain(params(), in_process=True)
    check_manifest(paths.SYSTEM1)
    check_manifest(paths.COTRAINED_SYSTEM2)
    after = load_file(paths.COTRAINED_SYSTEM2 / "system2.safetensors")
    assert before.keys() == after.keys()
    assert not any(torch.equal(value, before[name]) for name, value in after.items() if value.ndim > 1)
    found = read_json(paths.SYSTEM1 / "metrics.json")
    parts = found["validation_flow_loss"] + found["validation_next_token_loss"]
    assert found["validation_loss"] == pytest.approx(parts, rel=1e-5) and "action_error" in found
    assert found["trivial_loss"] == pytest.approx(found["trivial_flow_loss"] + found["trivial_next_token_loss"])
    assert set(read_lineage(paths.SYSTEM1).data) == {"egodex", "humanoid_everyday", "system2", "tokenizer"}

    frozen = params()
    own = frozen.finetune.model_copy(update={"tune_system2": False, "key_point_loss": 0.0})
    stage.finetune(frozen.model_copy(update={"finetune": own}), "pick_can", in_process=True)
    policy = load_file(paths.policy("pick_can") / "system2.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in policy.items())
    origin = read_lineage(paths.policy("pick_can")).data
    assert origin["system2"] == fingerprint_folder(paths.COTRAINED_SYSTEM2)
    assert origin["system1"] == fingerprint_folder(paths.SYSTEM1)


def test_an_interrupted_run_ends_with_the_same_bytes(workspace: Path) -> None:
    stage.posttrain(params(image_shift=1, batch=32), in_process=True)
    whole = sha256_folder(paths.SYSTEM1)
    shutil.rmtree(".psi0")

    def kill(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_here(stage.posttrain_job(params(image_shift=1, batch=32)), kill)
    stage.posttrain(params(image_shift=1, batch=32), in_process=True)
    assert sha256_folder(paths.SYSTEM1) == whole


def test_recomputing_and_accumulating_leave_what_they_should(workspace: Path) -> None:
    def run(**fields: Any) -> dict[str, torch.Tensor]:
        stage.posttrain(params(**fields), in_process=True)
        return load_file(paths.COTRAINED_SYSTEM2 / "system2.safetensors")

    plain, saving = run(), run(gradient_checkpointing=True)
    assert all(torch.equal(value, saving[name]) for name, value in plain.items())
    for fields in ({"precision": "bfloat16_linear"}, {"ema": 0.9}, {"zero_stage": 2}, {"accumulation": 2}):
        other = run(**fields)
        assert other.keys() == plain.keys() and all(value.isfinite().all() for value in other.values())


@pytest.mark.long
def test_two_ranks_train_to_the_same_weights_whoever_holds_them(workspace: Path) -> None:
    found = [
        train_on_two_ranks(stage.posttrain_job(params(ranks=2, zero_stage=zero)), workspace / f"zero-{zero}")
        for zero in (0, 3)
    ]
    for name in ("system1.safetensors", "system2/system2.safetensors"):
        one, other = (load_file(folder / name) for folder in found)
        for key, value in one.items():
            torch.testing.assert_close(value, other[key], atol=2e-3, rtol=0, msg=key)


def test_off_nothing_of_it_is_there(workspace: Path) -> None:
    def key(**fields: Any) -> str:
        return stage.posttrain_job(params(**fields)).fingerprint

    stage.posttrain(params(), in_process=True)
    stage.posttrain(params(cotrain=False), in_process=True)
    assert not paths.COTRAINED_SYSTEM2.exists(), "the output is replaced as a whole"
    assert stage.finetune_job(params(), "pick_can").inputs["system2"] == paths.SYSTEM2.absolute()
    assert "egodex" not in stage.posttrain_job(params(cotrain=False)).inputs
    names = {path.name for path in paths.SYSTEM1.iterdir()}
    assert names == {
        *("system1.safetensors", "system1.json", "normalizer.json", "manifest.json"),
        *("lineage.json", "metrics.json", "history.jsonl", "history.csv"),
    }
    on, off = key(), key(cotrain=False)
    write_json(paths.PREPARED_EGODEX / "more.json", {})
    assert key(cotrain=False) == off and key() != on


def test_what_is_missing_or_changed_is_named(workspace: Path) -> None:
    stage.posttrain(params(), in_process=True)
    file = paths.COTRAINED_SYSTEM2 / "system2.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Psi0Error, match=r"system2\.safetensors was changed"):
        stage.finetune_job(params(), "pick_can")
    shutil.rmtree(paths.PREPARED_EGODEX)
    with pytest.raises(Psi0Error, match=r"posttrain: its input egodex \(data/prepared/egodex\) is missing"):
        stage.posttrain_job(params())
    stage.posttrain_job(params(cotrain=False))


def test_the_report_s_chain_leads_through_system_1(workspace: Path) -> None:
    stage.posttrain(params(), in_process=True)
    stage.finetune(params(), "pick_can", in_process=True)
    shutil.copytree(paths.policy("pick_can"), paths.graphs("pick_can"))
    chain = {one.name: one for one in read_origin("pick_can", "0" * 64).ancestors}
    assert chain["policy"].made_from == ["System-1", "demonstrations", "tokenizer"]
    assert chain["System-1"].made_from == ["EgoDex", "Humanoid Everyday", "System-2", "tokenizer"]
    assert chain["System-2"].fingerprint == fingerprint_folder(paths.SYSTEM2)


def test_a_loss_that_explodes_names_both_samples(workspace: Path) -> None:
    named = r"not finite .*humanoid_everyday episode \d+ frame \d+ beside (egodex|humanoid_everyday) episode \d+"
    with pytest.raises(Psi0Error, match=named):
        stage.posttrain(params(learning_rate=1e30, warmup_steps=0), in_process=True)


def test_system2_begins_from_what_stage_1_left(workspace: Path) -> None:
    stage.posttrain(params(steps=0, warmup_steps=0), in_process=True)
    kept, began = System2.load(paths.COTRAINED_SYSTEM2).state_dict(), System2.load(paths.SYSTEM2).state_dict()
    assert all(torch.equal(value, began[name]) for name, value in kept.items())
