"""What the report says and what it weighs, read without a browser."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from judged_workspace import PARAMS, TASK, lineage, make_data, make_judged, make_models

from psi0 import paths
from psi0.evaluate.evidence import gather
from psi0.evaluate.films import MAX_BYTES, gather_films
from psi0.evaluate.origin import ORIGIN_FILE, Origin, read_origin
from psi0.evaluate.report import Beside, Registered, write_report
from psi0.evaluate.schemas import GateFile, TorchComparison, read_record
from psi0.evaluate.video import last_picture
from psi0.files import write_json


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace whose policy passed, as the current folder."""
    folder, before = tmp_path_factory.mktemp("judged"), Path.cwd()
    os.chdir(folder)
    make_judged(folder, films=1)
    yield folder
    os.chdir(before)


def report_again(file: Path, registered: Registered | None = None, with_origin: bool = True, **changes: object) -> str:
    """The report written anew from what lies in the workspace, as a registered version gets it."""
    verdict = read_record(GateFile, paths.gate(TASK) / "gate.json").model_copy(update=changes)
    evidence = gather(paths.evaluation(TASK), paths.graphs(TASK), PARAMS, TASK)
    origin = read_record(Origin, paths.gate(TASK) / ORIGIN_FILE) if with_origin else None
    write_report(file, verdict, evidence, PARAMS, paths.evaluation(TASK) / "videos", origin, registered)
    return file.read_text()


def test_it_is_written_again_from_the_evidence_alone(judged: Path, tmp_path: Path) -> None:
    first = (paths.gate(TASK) / "report.html").read_text()
    assert report_again(tmp_path / "report.html") == first
    bare = report_again(tmp_path / "report.html", with_origin=False)
    assert "How it was trained" in first and "How it was trained" not in bare
    assert "26 of 28 episodes succeeded" in bare


def test_what_only_the_registry_knows_is_shown(judged: Path, tmp_path: Path) -> None:
    registered = Registered(
        version="psi0-pick_can version 7",
        beside=Beside("version 3", 60, 54, 51, "on 60 fresh seeds the candidate is shown to be not inferior by 10%"),
        latency={"p50_ms": 9.5, "p95_ms": 11.25, "calls": 30, "what": "one chunk", "machine": "x86_64"},
        override="maria promoted it: the demo is tomorrow <script>alert(1)</script>",
        addresses={"run": "http://127.0.0.1:5000/#/experiments/1/runs/ab"},
    )
    torch = TorchComparison(episodes=28, graphs_only=1, torch_only=2, difference=-0.036, p_value=1.0, holds=True)
    page = report_again(tmp_path / "report.html", registered, attempt=7, torch=torch)
    for words in (
        "psi0-pick_can version 7",
        "version 3 is champion: on 60 fresh seeds",
        "champion: 85%",
        "51 of 60, on the same fresh seeds",
        "9.5 ms (median), 11.25 ms (95th percentile) over 30 calls",
        "number 7",
        "torch alone on 2",
        'href="http://127.0.0.1:5000/#/experiments/1/runs/ab"',
    ):
        assert words in page, words
    assert re.search(r'class="note override".*Promoted against the rule: maria .*&lt;script&gt;', page)
    assert "<script" not in page


def test_words_from_an_episode_are_no_markup(judged: Path) -> None:
    page = (paths.gate(TASK) / "report.html").read_text()
    assert "left its limits &lt;by 0.1 rad&gt;" in page and "<by" not in page


def test_every_ancestor_down_to_raw_episodes_is_named(judged: Path) -> None:
    origin = read_record(Origin, paths.gate(TASK) / ORIGIN_FILE)
    chain = {one.name: one for one in origin.ancestors}
    assert chain["policy"].made_from == ["System-1", "System-2", "demonstrations"]
    assert chain["EgoDex, raw"].fingerprint == "66" * 32 and chain["System-1"].fingerprint == "44" * 32
    assert {name for one in origin.ancestors for name in one.made_from} <= chain.keys()
    assert [entry.name for dataset in origin.datasets for entry in dataset.set_aside] == ["episode_17"] * 3


def test_what_the_judged_graphs_were_not_made_from_is_no_ancestor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_models()
    make_data()
    write_json(paths.graphs(TASK) / "lineage.json", lineage("3" * 40, demonstrations="55" * 32, notes="88" * 32))
    ancestors = read_origin(TASK, "ab" * 32).ancestors
    assert [one.name for one in ancestors] == ["policy", "demonstrations", "demonstrations, raw"]
    assert ancestors[0].made_from == ["demonstrations", "notes"]


def test_a_page_full_of_films_stays_small_and_is_written_in_time(judged: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    evidence = gather(paths.evaluation(TASK), paths.graphs(TASK), PARAMS, TASK)
    sample = next((paths.evaluation(TASK) / "videos").glob("policy_*.mp4")).read_bytes()
    for arm, evaluation in evidence.evaluations.items():
        for row in evaluation.rows:
            # A player reads past what follows a film's own boxes.
            (videos / f"{arm}_{row.seed}.mp4").write_bytes(sample + bytes(400_000))
    begin = time.process_time()
    verdict = read_record(GateFile, paths.gate(TASK) / "gate.json")
    write_report(tmp_path / "report.html", verdict, evidence, PARAMS, videos)
    assert time.process_time() - begin < 10
    assert 20_000_000 < (tmp_path / "report.html").stat().st_size < 25_000_000
    arms = gather_films(evidence, videos)
    assert sum(len(film.source) for arm in arms for film in arm.films) < MAX_BYTES * 1.4
    policy = arms[0]
    assert [film.row.success for film in policy.films[:3]] == [False, False, True], "failures come first"
    assert (
        sum(arm.left_out for arm in arms) > 0
        and "would make this page too large" in (tmp_path / "report.html").read_text()
    )


def test_the_last_picture_of_what_is_no_film_is_nothing() -> None:
    assert last_picture(b"film") == b"" and last_picture(b"") == b""
