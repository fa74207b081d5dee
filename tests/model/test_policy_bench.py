"""`psi0 policy bench` times every part under every runtime it is asked for."""

import re

import pytest
from typer.testing import CliRunner

from psi0.cli import app
from psi0.errors import Psi0Error
from psi0.export.bench import bench, subject


def test_every_part_is_timed(in_repository: None) -> None:
    answer = CliRunner().invoke(app, ["policy", "bench", "--profile", "smoke", "--threads", "1,2", "--calls", "2"])
    assert answer.exit_code == 0, answer.output
    rows = [line for line in answer.output.splitlines() if "thread" in line]
    assert [row.split("  ")[0] for row in rows] == [
        f"{runtime}, {count}" for runtime in ("torch", "onnxruntime") for count in ("1 thread", "2 threads")
    ]
    for row in rows:
        *parts, chunk = map(float, re.findall(r"\d+\.\d+", row))
        assert len(parts) == 4 and min(parts) > 0 and chunk > sum(parts)


def test_what_cannot_be_timed_is_refused(in_repository: None) -> None:
    with pytest.raises(Psi0Error, match="either"):
        subject(None, None)
    small = subject(None, "smoke")
    with pytest.raises(Psi0Error, match="tensorflow"):
        list(bench(small, ["1"], ["tensorflow"], 1))
    with pytest.raises(Psi0Error, match="positive"):
        list(bench(small, ["0"], ["torch"], 1))
