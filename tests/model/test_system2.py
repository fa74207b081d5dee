"""System-2 computes what transformers' own Qwen3-VL computes, and hands on what it should."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_policy import ACTION_TOKENS, HEIGHT, KEY_POINTS, SYSTEM2, WIDTH, make_system2
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model import text
from psi0.model.linear import use_bfloat16_products
from psi0.model.prompt import IGNORED
from psi0.model.system2 import System2

INSTRUCTIONS = ["pick up the can", "push"]


@pytest.fixture(scope="module")
def system2(tokenizer: Tokenizer) -> System2:
    return make_system2(tokenizer)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tokens(system2: System2, tokenizer: Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    batch = system2.make_prompt(tokenizer).batch(INSTRUCTIONS)
    return torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)


@pytest.mark.parametrize(("merge", "patch_size"), [(1, 16), (2, 8)])
def test_hidden_states_are_those_of_the_stock_model(
    tokenizer: Tokenizer, images: torch.Tensor, merge: int, patch_size: int
) -> None:
    sizes = SYSTEM2.model_copy(update={"convolutional_stem": False, "merge": merge, "patch_size": patch_size})
    ours = make_system2(tokenizer, sizes)
    stock = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(ours.config.qwen)).eval()
    stock.load_state_dict(ours.qwen.state_dict())
    ids, mask = tokens(ours, tokenizer)
    grid = torch.tensor([[1, HEIGHT // patch_size, WIDTH // patch_size]] * 2)
    with torch.no_grad():
        expected = stock(
            input_ids=ids,
            attention_mask=mask.long(),
            pixel_values=ours.patches(images),
            image_grid_thw=grid,
            mm_token_type_ids=(ids == ours.config.qwen["image_token_id"]).int(),
            output_hidden_states=True,
            use_cache=False,
        )
        found = ours.encode(images, ids, mask)
        hidden = found.hidden[:, : ids.shape[1]]
    torch.testing.assert_close(hidden[mask], expected.hidden_states[-1][mask], atol=1e-5, rtol=0)
    logits = ours.qwen.lm_head(hidden)
    torch.testing.assert_close(logits[mask], expected.logits[mask], atol=1e-5, rtol=0)


def test_the_state_before_the_final_norm_is_another_one(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    after = make_system2(tokenizer)
    before = make_system2(tokenizer, SYSTEM2.model_copy(update={"hidden_state": "pre_norm", "key_points": False}))
    before.qwen.load_state_dict(after.qwen.state_dict())
    ids, mask = tokens(after, tokenizer)
    raw, normed = before.encode(images, ids, mask).hidden, after.encode(images, ids, mask).hidden[:, :-1]
    torch.testing.assert_close(before.qwen.model.language_model.norm(raw), normed)
    assert (raw - normed).abs().max() > 0.01


def test_the_same_seed_gives_the_same_hidden_states(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    first, second, other = make_system2(tokenizer), make_system2(tokenizer), make_system2(tokenizer, seed=1)
    ids, mask = tokens(first, tokenizer)
    expected = first.encode(images, ids, mask)
    found = second.encode(images, ids, mask)
    assert torch.equal(found.hidden, expected.hidden)
    assert not torch.equal(other.encode(images, ids, mask).hidden, expected.hidden)
    assert expected.key_points is not None and expected.key_points.shape == (2, KEY_POINTS * 5)
    assert expected.hidden.shape == (2, ids.shape[1] + 1, SYSTEM2.hidden_size)
    assert expected.mask[:, -1].all()


def test_key_points_read_image_and_instruction(system2: System2, tokenizer: Tokenizer, images: torch.Tensor) -> None:
    ids, mask = tokens(system2, tokenizer)
    points = system2.encode(images[:1].expand(2, -1, -1, -1), ids, mask).key_points
    swapped = system2.encode(images, ids[:1].expand(2, -1), mask[:1].expand(2, -1)).key_points
    assert points is not None and swapped is not None
    assert not torch.allclose(points[0], points[1]) and not torch.allclose(swapped[0], swapped[1])


def test_padding_changes_nothing(system2: System2, tokenizer: Tokenizer, images: torch.Tensor) -> None:
    prompt = system2.make_prompt(tokenizer)
    short, long = prompt.batch(INSTRUCTIONS), prompt.batch(INSTRUCTIONS, length=prompt.length)
    outputs = [
        system2.encode(images, torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)) for batch in (short, long)
    ]
    mask = torch.from_numpy(short.mask)
    length = mask.shape[1]
    torch.testing.assert_close(
        outputs[0].hidden[:, :length][mask], outputs[1].hidden[:, :length][mask], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(outputs[0].key_points, outputs[1].key_points, atol=1e-6, rtol=0)


def test_next_token_loss_counts_the_answer_only(system2: System2, tokenizer: Tokenizer, images: torch.Tensor) -> None:
    prompt = system2.make_prompt(tokenizer)
    batch = prompt.answered(INSTRUCTIONS, [[3, 200, 7], [9]])
    ids, mask, labels = (torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.labels))
    found = system2.next_token_loss(images, ids, mask, labels)
    first = prompt.first_action_id
    assert first is not None
    end = [tokenizer.token_to_id(text.TURN_END), *tokenizer.encode("\n").ids]
    assert found.target.tolist() == [first + 3, first + 200, first + 7, *end, first + 9, *end]
    assert found.predicted.shape == found.target.shape
    by_sample = found.per_sample * torch.tensor([5.0, 3.0])
    torch.testing.assert_close(by_sample.sum() / 8, found.loss.detach())
    nothing = labels.clone()
    nothing[1] = IGNORED
    alone = system2.next_token_loss(images, ids, mask, nothing)
    torch.testing.assert_close(alone.loss.detach(), found.per_sample[0])


def test_stage_one_learns(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    system2 = make_system2(tokenizer).train()
    prompt = system2.make_prompt(tokenizer)
    bright = torch.arange(16) % 2
    images = (bright * 200)[:, None, None, None].expand(-1, HEIGHT, WIDTH, 3).to(torch.uint8)
    batch = prompt.answered(["pick"] * 16, [[10 + int(b), 50] for b in bright])
    ids, mask, labels = (torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.labels))
    optimizer = torch.optim.AdamW(system2.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss = system2.next_token_loss(images, ids, mask, labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_parts_hold_every_parameter_once(system2: System2) -> None:
    groups = system2.parameter_groups()
    listed = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(listed) == sorted({id(parameter) for parameter in system2.parameters()})
    assert all(groups[name] for name in ("vision", "language", "key_points"))


def test_gradient_checkpointing_gives_the_same_gradients(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    gradients = []
    for checkpointing in (False, True):
        system2 = make_system2(tokenizer).train()
        if checkpointing:
            system2.use_gradient_checkpointing()
        ids, mask = tokens(system2, tokenizer)
        system2.encode(images, ids, mask).hidden.square().mean().backward()
        gradients.append(system2.qwen.model.visual.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_save_and_load(system2: System2, tokenizer: Tokenizer, images: torch.Tensor, tmp_path: Path) -> None:
    system2.save(tmp_path)
    again = System2.load(tmp_path).eval()
    ids, mask = tokens(system2, tokenizer)
    assert torch.equal(again.encode(images, ids, mask).hidden, system2.encode(images, ids, mask).hidden)
    assert again.config == system2.config


def test_another_number_of_key_points(tokenizer: Tokenizer, images: torch.Tensor, tmp_path: Path) -> None:
    system2 = make_system2(tokenizer)
    ids, mask = tokens(system2, tokenizer)
    system2.set_key_points(5, seed=0)
    points = system2.encode(images, ids, mask).key_points
    assert points is not None and points.shape == (2, 25)
    system2.set_key_points(0, seed=0)
    found = system2.encode(images, ids, mask)
    assert found.key_points is None and found.hidden.shape[1] == ids.shape[1]
    system2.save(tmp_path)
    assert System2.load(tmp_path).key_point_head is None


def test_a_local_folder_is_a_source(tokenizer: Tokenizer, images: torch.Tensor, tmp_path: Path) -> None:
    sizes = SYSTEM2.model_copy(update={"convolutional_stem": False})
    stock = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(make_system2(tokenizer, sizes).config.qwen))
    stock.resize_token_embeddings(600, mean_resizing=False)
    stock.save_pretrained(tmp_path / "qwen")
    loaded = make_system2(tokenizer, sizes.model_copy(update={"source": str(tmp_path / "qwen")}))
    table, old = loaded.qwen.get_input_embeddings().weight, stock.get_input_embeddings().weight
    assert len(table) % 192 == 0 and torch.equal(table[:600], old)
    torch.testing.assert_close(table[600], old.mean(dim=0))
    ids, mask = tokens(loaded, tokenizer)
    assert loaded.encode(images, ids, mask).hidden.isfinite().all()


@pytest.fixture
def qwen_folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A stock Qwen3-VL, as transformers saves it."""
    sizes = SYSTEM2.model_copy(update={"convolutional_stem": False})
    stock = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(make_system2(tokenizer, sizes).config.qwen))
    stock.save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


def change_config(folder: Path, **fields: str) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def drop_vision(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "visual" not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def shrink_embedding(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if "embed_tokens" in name)
    save_file(weights | {name: weights[name][:-1].contiguous()}, folder / "model.safetensors", {"format": "pt"})


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_vision, r"lacks weights that fit .*visual.* would stay random"),
        (shrink_embedding, r"embed_tokens|cannot be loaded"),
        (truncate, r"cannot be loaded .*whole safetensors"),
        (
            lambda folder: change_config(folder, model_type="qwen2_vl"),
            r"is a model of type 'qwen2_vl'; give a Qwen3-VL",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), r"cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"cannot be loaded"),
    ],
)
def test_a_damaged_source_is_refused(
    tokenizer: Tokenizer, qwen_folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    sizes = SYSTEM2.model_copy(update={"convolutional_stem": False, "source": str(qwen_folder)})
    make_system2(tokenizer, sizes)
    damage(qwen_folder)
    with pytest.raises(Psi0Error, match=message):
        make_system2(tokenizer, sizes)


def test_a_source_that_is_not_there_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(Psi0Error, match=r"system2\.download"):
        make_system2(tokenizer, SYSTEM2.model_copy(update={"source": "nowhere/qwen"}))


def test_sizes_that_do_not_fit_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(Psi0Error, match="patch_size"):
        make_system2(tokenizer, SYSTEM2.model_copy(update={"patch_size": 24}))
    with pytest.raises(Psi0Error, match="max_text_tokens"):
        make_system2(tokenizer, SYSTEM2.model_copy(update={"max_text_tokens": 8}))


def test_a_tokenizer_without_action_tokens_is_refused() -> None:
    with pytest.raises(Psi0Error, match="tokenizer stage"):
        System2.create(
            params.System2(),
            camera=(HEIGHT, WIDTH),
            tokenizer=text.built_in_tokenizer(),
            action_tokens=ACTION_TOKENS,
            key_points=0,
            seed=0,
        )


def test_images_of_another_size_are_resized(system2: System2, images: torch.Tensor) -> None:
    from psi0.model import image

    large = images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    numbers = image.patches(image.resize(large.numpy(), HEIGHT, WIDTH), 16, 1)
    torch.testing.assert_close(system2.patches(large), torch.from_numpy(numbers), atol=1e-6, rtol=0)
    assert np.array_equal(image.patches(images.numpy(), 16, 1), system2.patches(images).numpy())


def test_bfloat16_products_change_training_only(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    ids, mask = tokens(make_system2(tokenizer), tokenizer)
    gradients = []
    for swapped in (False, True):
        system2 = make_system2(tokenizer)
        exact = system2.encode(images, ids, mask).hidden
        if swapped:
            use_bfloat16_products(system2)
            assert torch.equal(system2.encode(images, ids, mask).hidden, exact)
        found = system2.train().encode(images, ids, mask)
        assert found.hidden.dtype == torch.float32
        assert (found.hidden - exact).abs().max() < (0.3 if swapped else 1e-6)
        assert found.key_points is not None
        (found.hidden.square().mean() + found.key_points.square().mean()).backward()
        unused = {"qwen.lm_head.weight"}
        gradients.append({name: p.grad for name, p in system2.named_parameters() if name not in unused})
    for name, exact in gradients[0].items():
        assert exact is not None and gradients[1][name] is not None, name
        cosine = torch.nn.functional.cosine_similarity(exact.flatten(), gradients[1][name].flatten(), dim=0)
        assert cosine > 0.95, name
