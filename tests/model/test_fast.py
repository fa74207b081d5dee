"""FAST tokens: round trips, totality, and the published tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.model import text
from psi0.model.fast import FastDecodeError, FastTokenizer
from psi0.model.normalizer import Scale
from psi0.model.tokenizer_folder import Tokenizers

PUBLISHED = Path(__file__).parent / "fixtures" / "published_fast"
HALF_STEP = 0.005 + 1e-6
ZERO_RANGE = [6, 7, 8, 30, 31, 32]
"""Dimensions of the 48 that never move: the unused half of the 6-D rotations."""


def actions(count: int, horizon: int = 1, spread: float = 0.2, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(0, spread, (count, horizon, 48)).clip(-1, 1)
    drawn[:, :, ZERO_RANGE] = 0
    return drawn


@pytest.fixture(scope="module")
def fitted() -> FastTokenizer:
    return FastTokenizer.fit(actions(2000), vocabulary=300, scale=100)


@pytest.fixture(scope="module")
def published() -> FastTokenizer:
    return FastTokenizer.load(PUBLISHED)


@pytest.mark.parametrize("spread", [0.0, 0.2, 5.0])
@pytest.mark.parametrize("name", ["fitted", "published"])
def test_round_trip_within_half_a_step(name: str, spread: float, request: pytest.FixtureRequest) -> None:
    tokenizer: FastTokenizer = request.getfixturevalue(name)
    values = actions(200, spread=spread, seed=1)
    decoded = tokenizer.decode(tokenizer.encode(values))
    assert np.abs(decoded - values).max() <= HALF_STEP
    assert (decoded[:, :, ZERO_RANGE] == 0).all()


def test_published_statistics_scale_the_published_way() -> None:
    content = json.loads((PUBLISHED / "egodex_stat_all.json").read_text())["egodex"]
    low, high = np.array(content["q01"]), np.array(content["q99"])
    scale = Scale.fit(low, high, clip=1.0, method="quantile")
    drawn = np.random.default_rng(0).normal(0, 0.1, (50, 48))
    moving = high > low
    expected = np.clip(2 * (drawn - low)[:, moving] / (high - low)[moving] - 1, -1, 1)
    np.testing.assert_allclose(scale.normalize(drawn)[:, moving], expected, atol=1e-6)
    np.testing.assert_allclose(scale.normalize(drawn)[:, ~moving], drawn[:, ~moving].clip(-1, 1), atol=1e-6)


def test_chunks_go_through_the_cosine_transform() -> None:
    smooth = np.sin(np.linspace(0, 1, 8))[None, :, None] * np.linspace(-1, 1, 48)
    tokenizer = FastTokenizer.fit(smooth.repeat(50, 0), vocabulary=200, scale=10)
    decoded = tokenizer.decode(tokenizer.encode(smooth))
    assert decoded.shape == smooth.shape and np.abs(decoded - smooth).max() < 0.2
    assert len(tokenizer.encode(smooth)[0]) < 8 * 48 / 4


def test_values_beyond_the_alphabet_are_clipped(fitted: FastTokenizer) -> None:
    decoded = fitted.decode(fitted.encode(np.full((1, 1, 48), 3.0)))
    np.testing.assert_allclose(decoded, 1.0)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(-5, 400), max_size=60))
def test_decoding_is_total(fitted: FastTokenizer, ids: list[int]) -> None:
    try:
        decoded = fitted.decode([ids])
    except FastDecodeError:
        return
    assert decoded.shape == (1, 1, 48) and (np.abs(decoded) <= 1).all()


def test_too_few_coefficients_are_named(fitted: FastTokenizer) -> None:
    ids = fitted.encode(actions(1))[0]
    with pytest.raises(FastDecodeError, match="instead of 48"):
        fitted.decode([ids[:-1]])
    with pytest.raises(FastDecodeError, match="id 9999"):
        fitted.decode([[9999]])


def test_wrong_actions_are_refused(fitted: FastTokenizer) -> None:
    for wrong in (np.zeros((2, 1, 36)), np.full((1, 1, 48), np.nan), np.zeros(48)):
        with pytest.raises(Psi0Error, match="actions"):
            fitted.encode(wrong)
    with pytest.raises(Psi0Error, match=r"tokenizer\.vocabulary"):
        FastTokenizer.fit(actions(10), vocabulary=100, scale=100)


def test_fitting_twice_gives_the_same_files(fitted: FastTokenizer, tmp_path: Path) -> None:
    for name, tokenizer in (
        ("a", fitted),
        ("b", FastTokenizer.fit(actions(2000), vocabulary=300, scale=100)),
    ):
        made = Tokenizers.create(tokenizer, "bytes", Scale.fit(-np.ones(48), np.ones(48)))
        made.save(tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.json")]
    assert len(files) == 4
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    again = Tokenizers.load(tmp_path / "a")
    assert again.first_action_id == text.built_in_tokenizer().get_vocab_size()
    assert again.text.token_to_id("<|a_299|>") == again.first_action_id + 299
    assert again.fast.encode(actions(3)) == fitted.encode(actions(3))


def test_command_line_encodes_and_decodes(published: FastTokenizer, tmp_path: Path) -> None:
    values = actions(3)[:, 0].tolist()
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    runner = CliRunner()
    encoded = runner.invoke(app, ["tokenizer", "encode", "--tokenizer", str(PUBLISHED), "--values", str(file)])
    assert encoded.exit_code == 0, encoded.output
    ids = json.loads(encoded.stdout)
    assert ids == published.encode(np.array(values)[:, None])
    file.write_text(json.dumps(ids))
    decoded = runner.invoke(app, ["tokenizer", "decode", "--tokenizer", str(PUBLISHED), "--values", str(file)])
    assert np.abs(np.array(json.loads(decoded.stdout)) - values).max() <= HALF_STEP


@pytest.mark.parametrize("content", ["[[0.5, 2.0]]", "[[0.1, 0.2]]", "{}", "[[1, 2", '[["a"]]'])
def test_command_line_refuses_other_values(tmp_path: Path, content: str) -> None:
    file = tmp_path / "values.json"
    file.write_text(content)
    answer = CliRunner().invoke(app, ["tokenizer", "encode", "--tokenizer", str(PUBLISHED), "--values", str(file)])
    assert answer.exit_code != 0 and isinstance(answer.exception, Psi0Error)
    assert str(file) in str(answer.exception)
