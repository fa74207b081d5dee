"""`psi0 data show`: tables of a dataset, and one episode on a page that needs nothing else."""

import base64
import importlib.util
import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import raw_layouts
from typer.testing import CliRunner

from psi0 import paths
from psi0.cli import app
from psi0.data.stage import prepare_demonstrations, prepare_egodex
from psi0.errors import Psi0Error
from psi0.params import Params
from psi0.robot.layout import ACTION_NAMES
from psi0.watch import rerun_file
from psi0.watch.episode_page import write_page
from psi0.watch.recording import read_recording

MakeParams = Callable[..., Params]
FRAMES = 20


@pytest.fixture
def dataset(workspace: Path, params: MakeParams) -> Path:
    """Three episodes of teleoperation, prepared."""
    raw_layouts.teleoperation(paths.raw_demonstrations("pick_can"))
    prepare_demonstrations(params(), "pick_can")
    return paths.prepared_demonstrations("pick_can")


def show(*arguments: str) -> str:
    """What the command prints; raises what it raises."""
    result = CliRunner().invoke(app, ["data", "show", *arguments], catch_exceptions=False)
    if isinstance(result.exception, Psi0Error):
        raise result.exception
    return result.output


def page_of(dataset: Path, episode: str = "1") -> str:
    write_page(Path("page.html"), read_recording(dataset, episode))
    return Path("page.html").read_text()


def test_the_page_carries_everything_itself(dataset: Path) -> None:
    printed = show(f"{dataset}#1", "--out", "pages/one.html")
    assert printed.splitlines()[0] == "pages/one.html"
    page = Path("pages/one.html").read_text()
    assert "default-src 'none'" in page
    addresses = re.findall(r'(?:src|href|poster)="([^"]*)"', page)
    assert len(addresses) == 2 and all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?:|@import|url\(", page)
    film = base64.b64decode(next(a for a in addresses if "video" in a).split(",")[1])
    with av.open(io.BytesIO(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    recording = read_recording(dataset, "1")
    assert len(pictures) == len(recording.times) and pictures[0].shape == (384, 512, 3)
    assert abs(pictures[-1].mean() - recording.images[-1].mean()) < 3


def test_every_joint_and_command_is_drawn_between_its_limits(dataset: Path) -> None:
    page = page_of(dataset)
    assert page.count("<svg ") == len(ACTION_NAMES)
    charts = dict(re.findall(r'<svg .*?<title id="[^"]*">(\w+)</title>(.*?)</svg>', page, re.DOTALL))
    assert set(charts) == set(ACTION_NAMES)
    for name, chart in charts.items():
        assert chart.count("<polyline") == (2 if name.endswith("_joint") else 1), name
        assert chart.count('stroke="#c0362c"') == 2, f"two limits of {name}"
    assert "limits -10.00 to 10.00" in charts["velocity_x"] and "From 0.30 to 0.30 m/s" in charts["velocity_x"]
    assert "all numbers that have limits keep them" in page


def test_what_goes_beyond_its_limits_is_named(dataset: Path) -> None:
    limits = json.loads(Path("data/robot/limits.json").read_text())
    limits["commands"]["velocity_x"] = {"low": -0.1, "high": 0.1}
    Path("data/robot/limits.json").write_text(json.dumps(limits))
    frames = len(read_recording(dataset, "1").times)
    page = page_of(dataset)
    assert f"beyond them: velocity_x in {frames} frames" in page and "torso_pitch in" not in page


def test_a_dataset_without_quality_limits_or_known_names_is_shown_as_far_as_it_goes(dataset: Path) -> None:
    assert "in its source" in page_of(dataset)
    (dataset / "quality.json").unlink()
    Path("data/robot/limits.json").unlink()
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"]["action"]["names"] = None
    (dataset / "meta/info.json").write_text(json.dumps(info))
    page = page_of(dataset)
    assert "in its source" not in page and "dvc repro robot" in page and 'stroke="#c0362c"' not in page
    assert ">action 35<" in page and page.count("<svg ") == 36 + 32
    assert "episodes" in show(str(dataset))


def test_human_hands_are_shown_where_they_are_tracked(workspace: Path, params: MakeParams) -> None:
    raw_layouts.egodex(paths.RAW_EGODEX)
    prepare_egodex(params())
    page = page_of(paths.PREPARED_EGODEX, "0")
    assert page.count("<svg ") == 48 and "Left numbers" in page and "left_wrist_x" in page
    values = read_recording(paths.PREPARED_EGODEX, "0").groups["Left numbers"][0].commanded
    assert values is not None and list(map(bool, values != values)).count(True) > 0, "the last rows have none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}#3"], "has episodes 0 to 2, not '3'"),
        (["{}#one"], "has episodes 0 to 2, not 'one'"),
        (["{}", "--episode", "9"], "has episodes 0 to 2, not '9'"),
        (["{}#1", "--episode", "2"], "name different episodes"),
        (["{}", "--out", "page.html"], "name it: DATASET#EPISODE or --episode N"),
        (["{}#1", "--out", "page.pdf"], r"name it page\.html"),
        (["nowhere#1"], r"nowhere/meta/info\.json is missing"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_remedy(dataset: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(Psi0Error, match=message):
        show(*(argument.format(dataset) for argument in arguments))
    assert not list(Path().glob("*.html"))


def test_broken_limits_are_named(dataset: Path) -> None:
    Path("data/robot/limits.json").write_text("{")
    with pytest.raises(Psi0Error, match=r"limits\.json is not valid JSON"):
        read_recording(dataset, "1")


def test_without_rerun_one_line_says_how_to_get_it(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun_file, "has_rerun", lambda: False)
    printed = show(str(dataset), "--episode", "2").splitlines()
    assert printed == ["episode_2.html", "no Rerun file: rerun-sdk is not installed (pip install rerun-sdk)"]


@pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="rerun-sdk is not installed")
def test_with_rerun_a_file_lies_beside_the_page(dataset: Path) -> None:
    printed = show(str(dataset), "--episode", "2").splitlines()
    assert printed == ["episode_2.html", "episode_2.rrd"]
    subprocess.run(["rerun", "rrd", "verify", "episode_2.rrd"], check=True)
