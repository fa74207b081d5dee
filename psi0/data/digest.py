"""One raw episode, checked, thinned, resized and encoded, or the reason why not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from psi0.data import quality as checks
from psi0.data.episode import BadEpisode, Image, OtherRobot, RawEpisode, or_bad_episode
from psi0.data.features import ACTION, STATE
from psi0.data.source import RawSource
from psi0.data.statistics import ImageStatistics, evenly_spaced
from psi0.data.video import Codec, VideoFormat, encode
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE, ActionPart

IMAGES_PER_EPISODE = 16
"""Frames per episode that image statistics are taken from."""
FRAMES_TOO_MANY_OR_FEW = 2
"""A video may be this much longer or shorter than its numbers; the common part is used."""


@dataclass(frozen=True)
class Recipe:
    """What preparing a dataset needs to know beyond its source.

    Attributes:
        width, height: size of the prepared images [pixels].
        codec, quality: of the prepared videos.
        max_bad_share: share of bad episodes above which preparing stops.
        idle: tells where nothing moves (episode, frame rate [Hz]) -> bool `(frames,)`.
        finish: turns an importer's columns into the prepared ones (episode, frame rate) -> columns.
        check: refuses an episode by raising `BadEpisode` (limits).
        frame_rate: thin to this rate [Hz] by taking every n-th frame; None keeps the source's.
        robot_type: goes into `info.json`.
        has_robot: True where action and state are the robot's 36 and 32 numbers.
    """

    width: int
    height: int
    codec: Codec
    quality: int
    max_bad_share: float
    idle: Callable[[RawEpisode, float], NDArray[np.bool_]]
    finish: Callable[[RawEpisode, float], dict[str, NDArray[np.float32]]] = lambda episode, _: episode.columns
    check: Callable[[RawEpisode], None] = lambda _: None
    frame_rate: float | None = None
    robot_type: str = "unitree_g1_dex3"
    has_robot: bool = True


@dataclass(frozen=True)
class Ready:
    """An episode that passed every check: prepared columns, encoded video, statistics of its images."""

    episode: RawEpisode
    clip: bytes
    images: ImageStatistics
    idle: NDArray[np.bool_]


Outcome = Ready | checks.SetAside


def digest(source: RawSource, name: str, recipe: Recipe, form: VideoFormat, recorded: float, stride: int) -> Outcome:
    """Prepare one episode of a source recorded at `recorded` Hz, keeping every `stride`-th frame."""
    try:
        with or_bad_episode():
            return _digest(source, name, recipe, form, recorded, stride)
    except OtherRobot as reason:
        return checks.SetAside(name=name, reason=str(reason), category="other_robot")
    except BadEpisode as reason:
        return checks.SetAside(name=name, reason=str(reason), category="bad")


def _digest(source: RawSource, name: str, recipe: Recipe, form: VideoFormat, recorded: float, stride: int) -> Ready:
    episode = source.load(name)
    checks.check_numbers(episode)
    checks.check_rate(episode.timestamps, recorded)
    recipe.check(episode)
    episode = _thin(episode, stride)
    checks.check_numbers(episode)
    frames = _Frames(episode.images(recipe.width, recipe.height), stride, episode.frames)
    clip = encode(frames, form)
    if frames.seen < episode.frames - FRAMES_TOO_MANY_OR_FEW or frames.seen < checks.SHORTEST:
        raise BadEpisode(f"the video holds {frames.seen} frames, the numbers {episode.frames}")
    if frames.left_over > FRAMES_TOO_MANY_OR_FEW:
        raise BadEpisode(f"the video holds more frames than the numbers ({episode.frames})")
    episode = _cut(episode, slice(frames.seen))
    episode = replace(episode, columns=recipe.finish(episode, recorded / stride))
    checks.check_numbers(episode)
    return Ready(episode, clip, frames.statistics, recipe.idle(episode, recorded / stride))


class _Frames:
    """Every `stride`-th image, at most `wanted` of them, counted and sampled for statistics on their way through."""

    def __init__(self, images: Iterator[Image], stride: int, wanted: int) -> None:
        self._images, self._stride, self._wanted = images, stride, wanted
        self._sampled = evenly_spaced(wanted, IMAGES_PER_EPISODE)
        self.statistics = ImageStatistics()
        self.seen = 0
        self.left_over = 0

    def __iter__(self) -> Iterator[Image]:
        for index, image in enumerate(self._images):
            if index % self._stride:
                continue
            if self.seen == self._wanted:
                self.left_over += 1
                if self.left_over > FRAMES_TOO_MANY_OR_FEW:
                    return
                continue
            if self.seen in self._sampled:
                self.statistics.add(image)
            self.seen += 1
            yield image


def _cut(episode: RawEpisode, rows: slice) -> RawEpisode:
    columns = {name: values[rows] for name, values in episode.columns.items()}
    return replace(episode, timestamps=episode.timestamps[rows], columns=columns)


def _thin(episode: RawEpisode, stride: int) -> RawEpisode:
    """Every `stride`-th frame. The state's last command is then the one of the frame before that is kept."""
    if stride == 1:
        return episode
    thin = _cut(episode, slice(None, None, stride))
    state, action = thin.columns.get(STATE), thin.columns.get(ACTION)
    if state is None or action is None or (state.shape[1], action.shape[1]) != (STATE_SIZE, ACTION_SIZE):
        return thin
    told = np.array(episode.state_mask or [1.0] * STATE_SIZE)[ActionPart.TORSO_AND_HEIGHT].all()
    if told:
        state = state.copy()
        state[1:, ActionPart.TORSO_AND_HEIGHT] = action[:-1, ActionPart.TORSO_AND_HEIGHT]
        thin.columns[STATE] = state
    return thin
