"""`psi0 tokenizer report`: what it prints is what encoding really loses."""

from pathlib import Path

import numpy as np
import pytest
from learnable import tiny_params, write_dataset
from typer.testing import CliRunner

from psi0.cli import app
from psi0.data.dataset import LeRobotDataset
from psi0.errors import Psi0Error
from psi0.model.fast import FastTokenizer
from psi0.model.normalizer import Scale
from psi0.model.tokenizer_folder import Tokenizers
from psi0.train.next_tokens import task_space
from psi0.train.tokenizer_report import report

PUBLISHED = Path(__file__).parent / "fixtures" / "published_fast"


@pytest.fixture(scope="module")
def egodex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "egodex"
    write_dataset(folder, "egodex")
    return folder


def test_the_report_is_what_encoding_loses(egodex: Path, tmp_path: Path) -> None:
    everything, valid = task_space(LeRobotDataset(egodex))
    values = everything[valid].astype(np.float64)
    scale = Scale.fit(values.min(axis=0), values.max(axis=0), method="quantile")
    normal = scale.normalize(values)[:, None]
    fast = FastTokenizer.fit(normal, vocabulary=64, scale=10)
    Tokenizers.create(fast, tiny_params().tokenizer.text, scale).save(tmp_path)
    found = report(tmp_path, egodex, samples=10**6)
    tokens = fast.encode(normal)
    assert found.actions == len(values)
    assert found.tokens[0] == pytest.approx(np.mean([len(ids) for ids in tokens]))
    back = scale.denormalize(fast.decode(tokens)[:, 0])
    assert found.raw_error == pytest.approx(np.abs(back - values).mean(), rel=1e-3)
    assert 0 < found.normalised_error <= 0.5 / 10
    assert found.clipped_share < 0.01


def test_the_published_tokenizer_brings_its_own_statistics(egodex: Path) -> None:
    answer = CliRunner().invoke(
        app, ["tokenizer", "report", "--tokenizer", str(PUBLISHED), "--dataset", str(egodex), "--samples", "50"]
    )
    assert answer.exit_code == 0, answer.output
    assert "1.95e-04" in answer.output and "vocabulary in use      2048" in answer.output


def test_a_tokenizer_without_statistics_is_refused(egodex: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "processor_config.json"):
        (tmp_path / name).write_bytes((PUBLISHED / name).read_bytes())
    with pytest.raises(Psi0Error, match="normalised"):
        report(tmp_path, egodex, 10)
