"""Frames are found by time however far apart key frames lie, and no video makes the reader decode for ever."""

from pathlib import Path

import av
import numpy as np
import pytest
import raw_layouts

from psi0.data import frames_at as module
from psi0.data.episode import BadEpisode
from psi0.data.frames_at import frames_at


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sixty frames at 10 Hz: h264 with one key frame, with one every second, AV1 with one every second."""
    folder = tmp_path_factory.mktemp("videos")
    found = {name: folder / f"{name}.mp4" for name in ("one_key_frame", "many_key_frames", "av1")}
    raw_layouts.video(found["one_key_frame"], 60, rate=10, key_frame_every=250)
    raw_layouts.video(found["many_key_frames"], 60, rate=10, key_frame_every=10)
    raw_layouts.video(found["av1"], 60, rate=10, codec="av1")
    return found


def key_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)


@pytest.mark.parametrize("name", ["one_key_frame", "many_key_frames", "av1"])
@pytest.mark.parametrize("wanted", [range(60), (59,), (0, 25, 59), (13, 25, 25, 37, 49), (5, 40, 41, 58)], ids=str)
def test_frames_by_time(
    videos: dict[str, Path], name: str, wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (key_frames(videos[name]) == 1) == (name == "one_key_frame")
    seeks = []
    monkeypatch.setattr(module, "_seek", lambda *given, seek=module._seek: seeks.append(given) or seek(*given))
    images = list(frames_at(videos[name], [step / 10 for step in wanted], 10))
    assert len(images) == len(wanted) and len(seeks) <= len(set(wanted))
    for step, image in zip(wanted, images, strict=True):
        assert np.abs(image.astype(int) - raw_layouts.picture(step)).mean() < 6, step


def test_useless_seeks_become_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_layouts.video(tmp_path / "long.mp4", 400, rate=10, key_frame_every=1000)
    seeks = []
    monkeypatch.setattr(module, "_seek", lambda *given, seek=module._seek: seeks.append(given) or seek(*given))
    assert len(list(frames_at(tmp_path / "long.mp4", [1.5 * i for i in range(26)], 10))) == 26
    assert len(seeks) < 6


def test_a_video_that_ends_early(videos: dict[str, Path]) -> None:
    times = [5.8, 5.9, 6.0]
    with pytest.raises(BadEpisode, match=r"one_key_frame.mp4 ends before 6.000 s \(1 frames missing\)"):
        list(frames_at(videos["one_key_frame"], times, 10))
    assert len(list(frames_at(videos["one_key_frame"], times, 10, may_end_early=True))) == 2
