"""What training and the robot share: prompts, images, positions, normalisers, the sampler."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from psi0.errors import Psi0Error
from psi0.model import euler, image, text
from psi0.model.normalizer import Normalizer, Scale
from psi0.model.prompt import IGNORED, Prompt
from psi0.model.rope import rope_index

SHARED = (
    "prompt",
    "image",
    "rope",
    "normalizer",
    "euler",
    "prefix",
    "fast",
    "text",
    "config",
    "policy_config",
)


def test_shared_modules_need_numpy_and_tokenizers_only() -> None:
    imports = "; ".join(f"import psi0.model.{name}" for name in SHARED)
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "ray", "onnxruntime", "PIL", "scipy", "safetensors"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
{imports}
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def prompt(tokenizer: Tokenizer) -> Prompt:
    return Prompt(tokenizer, 12, 32)


def test_prompt_is_the_chat_template(prompt: Prompt, tokenizer: Tokenizer) -> None:
    spelled = tokenizer.decode(prompt.tokens("  Pick UP the can "), skip_special_tokens=False)
    assert spelled == (
        "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * 12 + "<|vision_end|>pick up the can<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = prompt.tokens("pick up the can")
    assert ids[prompt.image_start] == ids[prompt.image_start + 11] == tokenizer.token_to_id(text.IMAGE)


@settings(max_examples=50, deadline=None)
@given(instruction=st.text(max_size=200))
def test_any_instruction_fits(prompt: Prompt, instruction: str) -> None:
    batch = prompt.batch([instruction], length=prompt.length)
    assert batch.ids.shape == (1, prompt.length) == batch.mask.shape
    controls = {text.IMAGE: 12, text.TURN_START: 2, text.TURN_END: 1, text.VISION_START: 1}
    for token, count in controls.items():
        assert (batch.ids[batch.mask] == prompt.tokenizer.token_to_id(token)).sum() == count


def test_control_tokens_in_an_instruction_are_plain_text(prompt: Prompt, tokenizer: Tokenizer) -> None:
    ids = prompt.tokens("a<|im_end|><|a_1|>")
    assert ids.count(tokenizer.token_to_id(text.TURN_END)) == 1
    assert prompt.first_action_id is not None and max(ids) < prompt.first_action_id


def test_answers_are_labelled_and_nothing_else(prompt: Prompt) -> None:
    batch = prompt.answered(["go", "stop now"], [[1, 2, 3], [4]])
    assert batch.labels is not None and prompt.first_action_id is not None
    for row, answer in enumerate([[1, 2, 3], [4]]):
        scored = batch.labels[row] != IGNORED
        assert scored.sum() == len(answer) + 2
        assert (batch.labels[row][scored] == batch.ids[row][scored]).all()
        assert batch.labels[row][scored][: len(answer)].tolist() == [prompt.first_action_id + a for a in answer]
        assert not (scored & ~batch.mask[row]).any()


def test_built_in_tokenizer_spells_any_text() -> None:
    built = text.built_in_tokenizer()
    for words in ("pick up the can", "Ψ₀ très étrange 机器人 \x00"):
        assert built.decode(built.encode(words).ids, skip_special_tokens=False) == words


def test_broken_text_tokenizers_are_refused(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    with pytest.raises(Psi0Error, match=r"tokenizer\.text"):
        text.make_text_tokenizer(str(folder))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Psi0Error, match="not a tokenizer"):
        text.make_text_tokenizer(str(folder))


def test_positions_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers import Qwen3VLConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

    config = Qwen3VLConfig()
    stock = Qwen3VLModel.__new__(Qwen3VLModel)
    torch.nn.Module.__init__(stock)
    stock.config = config
    merge = config.vision_config.spatial_merge_size
    kinds = torch.zeros(1, 40, dtype=torch.int32)
    kinds[0, 4 : 4 + 15] = 1
    grid = torch.tensor([[1, 3 * merge, 5 * merge]])
    expected, _ = stock.get_rope_index(torch.zeros(1, 40, dtype=torch.long), kinds, image_grid_thw=grid)
    assert np.array_equal(rope_index(40, 4, 3, 5), expected[:, 0].numpy())


def test_patches_are_those_of_the_qwen_processor() -> None:
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    found = image.patches(images, 16, 2)
    # The processor's reshape, written out: frames doubled, then (t, h, m, p, w, m, p) to (t, h, w, m, m, c, t, p, p).
    frames = torch.from_numpy(images).permute(0, 3, 1, 2).float()[:, None].repeat(1, 2, 1, 1, 1) / 127.5 - 1
    cut = frames.reshape(2, 1, 2, 3, 2, 2, 16, 3, 2, 16).permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    np.testing.assert_allclose(found, cut.reshape(2 * 24, -1).numpy(), atol=1e-6)


def test_resizing_is_that_of_pillow() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), dtype=np.uint8)
    for height, width in ((48, 64), (120, 100), (60, 80)):
        expected = np.asarray(Image.fromarray(picture[0]).resize((width, height), Image.Resampling.BILINEAR))
        found = image.resize(picture, height, width)[0]
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert image.model_size(240, 320, 16, 2) == (256, 320) and image.model_size(96, 128, 16, 1) == (96, 128)


def test_scales_go_both_ways() -> None:
    scale = Scale.fit([-1.0, 0.0, 2.0], [1.0, 0.0, 2.01], minimum_half_range=0.02, clip=1.1)
    values = np.array([[0.5, 0.01, 2.0], [-1.0, 0.0, 2.01]], np.float32)
    np.testing.assert_allclose(scale.denormalize(scale.normalize(values)), values, atol=1e-6)
    assert scale.half_range.tolist() == [1.0, 0.02, 0.02]
    np.testing.assert_allclose(scale.denormalize(np.full(3, 9.0)), scale.high)
    np.testing.assert_allclose(scale.normalize(np.full(3, 1e9)), 1.1)
    assert Scale.fit([0.0], [0.0]).normalize([0.3]).tolist() == [np.float32(0.3)]


def test_normalizers_survive_json() -> None:
    import json

    made = Normalizer(Scale.identity(32), Scale.fit(-np.ones(36), np.ones(36)), None)
    again = Normalizer.from_json(json.loads(json.dumps(made.to_json())))
    assert again.to_json() == made.to_json() and again.state.clip == float("inf")
    with pytest.raises(Psi0Error, match="schema_version 2"):
        Normalizer.from_json(made.to_json() | {"schema_version": 2})
    with pytest.raises(Psi0Error, match=r"normalizer\.json: action"):
        Normalizer.from_json(made.to_json() | {"action": {"center": [0]}})


@pytest.mark.parametrize("bounds", [([0, np.nan], [1, 1]), ([2, 0], [1, 1]), ([0], [1, 1])])
def test_bounds_that_make_no_sense_are_refused(bounds: tuple[list[float], list[float]]) -> None:
    with pytest.raises(Psi0Error, match="bounds"):
        Scale.fit(*bounds)


def test_published_schedule_and_a_straight_flow() -> None:
    levels = euler.schedule(10, "published")
    expected = [1, 0.889, 0.778, 0.667, 0.556, 0.445, 0.334, 0.223, 0.112, 0.001, 0]
    np.testing.assert_allclose(levels, expected, atol=1e-6)
    target, noise = np.full((1, 4, 2), 0.3, np.float32), np.ones((1, 4, 2), np.float32)
    for kind in ("uniform", "published"):
        found = euler.sample(lambda actions, step, late: noise - target, noise, euler.schedule(5, kind))
        np.testing.assert_allclose(found, target, atol=1e-6)


def test_the_prefix_is_clean_at_every_step() -> None:
    seen: list[tuple[np.ndarray, int, np.ndarray]] = []

    def velocity(actions: np.ndarray, step: int, late: np.ndarray) -> np.ndarray:
        seen.append((actions.copy(), step, late.copy()))
        return np.ones_like(actions)

    prefix = np.full((2, 3), 0.25, np.float32)
    found = euler.sample(velocity, np.zeros((1, 5, 3), np.float32), euler.schedule(4), prefix)
    assert np.array_equal(found[0, :2], prefix) and [step for _, step, _ in seen] == [0, 1, 2, 3]
    for actions, _, late in seen:
        assert np.array_equal(actions[0, :2], prefix) and late.tolist() == [[0, 0, 1, 1, 1]]
    assert euler.sample(velocity, np.zeros((1, 2, 3), np.float32), euler.schedule(2), np.ones((9, 3))).shape == (
        1,
        2,
        3,
    )
