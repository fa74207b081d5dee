"""At paper size text is cut by Qwen's own tokenizer: the real one, with its published ids."""

from pathlib import Path

import pytest
from qwen_text import write_qwen_tokenizer
from tokenizers import Tokenizer

from psi0.errors import Psi0Error
from psi0.model import text
from psi0.model.image import model_size
from psi0.model.prompt import Prompt
from psi0.model.qwen import padded_vocabulary
from psi0.model.untrained import QWEN_TOKENS
from psi0.profiles import load_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen_tokenizer(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return text.make_text_tokenizer(str(folder))


def test_words_have_their_published_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("pick up the red can").ids == [29245, 705, 279, 2518, 646]
    assert tokenizer.get_vocab_size(with_added_tokens=True) == QWEN_TOKENS
    assert text.control_ids(tokenizer) == {
        "pad": 151_643,
        "vision_start": 151_652,
        "vision_end": 151_653,
        "image": 151_655,
        "video": 151_656,
    }
    assert tokenizer.decode(tokenizer.encode("Öffne die Schublade, 打开抽屉 \U0001f600").ids) == (
        "Öffne die Schublade, 打开抽屉 \U0001f600"
    )


def test_action_tokens_stand_behind_the_vocabulary(tokenizer: Tokenizer) -> None:
    count = load_profile("paper").tokenizer.vocabulary
    assert text.add_action_tokens(tokenizer, count) == QWEN_TOKENS
    assert tokenizer.token_to_id("<|a_2047|>") == QWEN_TOKENS + 2047
    assert padded_vocabulary(tokenizer.get_vocab_size(with_added_tokens=True)) == 153_792


def test_the_published_prompt_has_its_published_length(tokenizer: Tokenizer) -> None:
    paper = load_profile("paper")
    height, width = model_size(paper.camera.height, paper.camera.width, paper.system2.patch_size, paper.system2.merge)
    image_tokens = height * width // (paper.system2.patch_size * paper.system2.merge) ** 2
    prompt = Prompt(tokenizer, image_tokens, paper.system2.max_text_tokens)
    assert image_tokens == 80
    assert 95 <= len(prompt.tokens("Pick up the red can and put it on the tray.")) <= 110
    spelled = "".join(tokenizer.decode([one], skip_special_tokens=False) for one in prompt.tokens("Lift the can."))
    around = "<|image_pad|>" * image_tokens
    assert spelled == (
        f"<|im_start|>user\n<|vision_start|>{around}<|vision_end|>lift the can.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_folder_without_the_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Psi0Error, match=r"tokenizer\.json is missing"):
        text.make_text_tokenizer(str(tmp_path))
