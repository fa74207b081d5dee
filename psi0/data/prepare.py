"""From raw episodes to a LeRobot v3.0 dataset; what is bad is set aside with a reason."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from psi0.data import quality as checks
from psi0.data.digest import Outcome, Ready, Recipe, digest
from psi0.data.episode import BadEpisode, RawEpisode, or_bad_episode
from psi0.data.features import CAMERA, KEY_POINTS, feature_of, valid_columns
from psi0.data.lerobot_writer import LeRobotWriter
from psi0.data.source import RawSource
from psi0.data.statistics import ImageStatistics, Statistics
from psi0.data.video import VideoFormat, exact_rate
from psi0.errors import Psi0Error
from psi0.files import publish_folder, write_json
from psi0.progress import progress
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

_VOTERS = 5
_MOST_THREADS = 16


def prepare(source: RawSource, recipe: Recipe, target: Path) -> None:
    """Write the dataset, `quality.json`, `metrics.json` and `meta/psi0.json` into `target`.

    Raises:
        Psi0Error: more than `max_bad_share` of the episodes are bad (naming the worst), none is usable, or a file of
            the source changed since it was indexed.
    """
    rate = _vote_on_rate(source)
    recorded = rate.hertz
    stride = _stride(recorded, recipe.frame_rate, source)
    form = VideoFormat(recipe.width, recipe.height, exact_rate(recorded / stride), recipe.codec, recipe.quality)
    work = partial(digest, source, recipe=recipe, form=form, recorded=recorded, stride=stride)
    with publish_folder(target) as folder:
        collected = _Collected(folder, recipe, form, rate.remarks)
        try:
            with progress(f"preparing {target}", len(source.names)) as advance:
                for outcome in _in_order(work, source.names):
                    collected.take(outcome)
                    advance(1)
            checks.refuse_too_many_bad(len(collected.kept), collected.set_aside, recipe.max_bad_share, source.label)
            collected.finish(source)
        except BaseException:
            collected.abandon()
            raise


class _Collected:
    """Outcomes, in order, on their way into one dataset."""

    def __init__(self, folder: Path, recipe: Recipe, form: VideoFormat, remarks: list[str]) -> None:
        self._folder, self._recipe, self._form, self._remarks = folder, recipe, form, remarks
        self._pixels = ImageStatistics()
        self._writer: LeRobotWriter | None = None
        self._first: RawEpisode | None = None
        self.kept: list[checks.KeptEpisode] = []
        self.set_aside: list[checks.SetAside] = []

    def take(self, outcome: Outcome) -> None:
        """Write one episode, or note why it is set aside. The first one decides which columns there are."""
        if isinstance(outcome, Ready) and self._first is not None:
            outcome = _same_columns(outcome, self._first)
        if isinstance(outcome, checks.SetAside):
            self.set_aside.append(outcome)
            return
        episode = outcome.episode
        if self._writer is None:
            self._first = episode
            features = {name: feature_of(name, values.shape[1]) for name, values in episode.columns.items()}
            self._writer = LeRobotWriter(
                self._folder, features, CAMERA, self._form, self._recipe.robot_type, valid_columns(features)
            )
        self.kept.append(checks.keep(episode, self._writer.episodes, outcome.idle))
        self._writer.add(episode.columns, outcome.clip, episode.instruction, outcome.images.result())
        self._pixels.merge(outcome.images)

    def finish(self, source: RawSource) -> None:
        """Write metadata, statistics and the reports. At least one episode must have been kept."""
        assert self._writer is not None and self._first is not None
        statistics = self._writer.finish(self._pixels.result())
        report = self._report(source, self._first, statistics)
        checks.write_quality(self._folder, report)
        write_json(self._folder / "meta/psi0.json", _identity(source, self._first, self._recipe.has_robot))
        write_json(self._folder / "metrics.json", _metrics(report))

    def abandon(self) -> None:
        """Let go of open files."""
        if self._writer is not None:
            self._writer.abandon()

    def _report(self, source: RawSource, first: RawEpisode, statistics: dict[str, Statistics]) -> checks.Quality:
        frames = sum(entry.frames for entry in self.kept)
        channels = {
            name: checks.channels_of(feature_of(name, values.shape[1]).names, statistics[name])
            for name, values in first.columns.items()
        }
        return checks.Quality(
            source_format=source.format,
            synthetic=source.synthetic,
            frame_rate=float(self._form.frame_rate),
            frames=frames,
            remarks=self._remarks,
            idle_share=round(sum(entry.idle_share * entry.frames for entry in self.kept) / frames, 4),
            kept=self.kept,
            set_aside=self.set_aside,
            channels=channels,
            still_channels=[
                f"{feature}: {channel.name}"
                for feature, entries in channels.items()
                for channel in entries
                if channel.spread < checks.STILL
            ],
        )


@dataclass(frozen=True)
class _Rate:
    """A dataset's frame rate [Hz], and what is worth telling about how it was found."""

    hertz: float
    remarks: list[str]


def _vote_on_rate(source: RawSource) -> _Rate:
    """The frame rate that the source states, unless the time stamps of its first sound episodes agree on another."""
    stated: list[float] = []
    measured: list[float] = []
    reasons: list[str] = []
    for name in source.names:
        try:
            with or_bad_episode():
                episode = source.load(name)
                checks.check_numbers(episode)
                measured.append(checks.measured_rate(episode.timestamps))
                stated += [episode.frame_rate] if episode.frame_rate else []
        except BadEpisode as reason:
            reasons.append(f"{name}: {reason}")
        if len(measured) == _VOTERS:
            break
    if not measured:
        raise Psi0Error(f"{source.label}: no usable episode. {'; '.join(reasons[:5]) or 'It holds no episode at all'}")
    found = _round_rate(median(measured))
    if not stated:
        return _Rate(found, [])
    said = float(median(stated))
    agree = all(abs(rate / found - 1) <= checks.RATE_TOLERANCE for rate in measured)
    if abs(found / said - 1) <= checks.RATE_TOLERANCE or not agree:
        return _Rate(said, [])
    return _Rate(found, [f"the source states {said:g} Hz, its time stamps say {found:g} Hz: the time stamps were used"])


def _round_rate(rate: float) -> float:
    """Snap a measured rate to a whole number of frames per second when it is within 5 % of one."""
    whole = round(rate)
    return float(whole) if whole and abs(rate / whole - 1) < 0.05 else round(rate, 3)


def _stride(recorded: float, wanted: float | None, source: RawSource) -> int:
    if wanted is None:
        return 1
    stride = round(recorded / wanted)
    if stride < 1 or abs(recorded / stride / wanted - 1) > 0.01:
        raise Psi0Error(
            f"{source.label} is recorded at {recorded:g} Hz, which is no multiple of control.policy_hz ({wanted:g}); "
            f"set control.policy_hz to {recorded:g} or a whole fraction of it"
        )
    return stride


def _in_order(work: Callable[[str], Outcome], names: list[str]) -> Iterator[Outcome]:
    """Results in the order of names; decoding and encoding, which let go of Python's lock, run a little ahead."""
    threads = min(_MOST_THREADS, max(2, len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Outcome]] = deque()
        try:
            for name in names:
                waiting.append(pool.submit(work, name))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _same_columns(ready: Ready, first: RawEpisode) -> Outcome:
    """Refuse an episode whose columns or masks differ from the first one's: a dataset has one set of either."""
    episode = ready.episode
    sizes = [{name: values.shape[1] for name, values in each.columns.items()} for each in (episode, first)]
    masks = [(each.action_mask, each.state_mask) for each in (episode, first)]
    if sizes[0] == sizes[1] and masks[0] == masks[1]:
        return ready
    differing = sorted(set(sizes[0].items()) ^ set(sizes[1].items()))
    what = f"columns differ from the first episode's: {', '.join(f'{n} ({s})' for n, s in differing)}"
    if not differing:
        what = "numbers that are padding differ from the first episode's; keep such episodes in a dataset of their own"
    return checks.SetAside(name=episode.name, reason=f"its {what}", category="bad")


def _identity(source: RawSource, first: RawEpisode, has_robot: bool) -> dict[str, object]:
    points = first.columns.get(KEY_POINTS)
    return {
        "schema_version": 1,
        "synthetic": source.synthetic,
        "redistributable": source.redistributable,
        "source_format": source.format,
        "source_fingerprint": source.fingerprint,
        "action_mask": list(first.action_mask or [float(has_robot)] * ACTION_SIZE),
        "state_mask": list(first.state_mask or [float(has_robot)] * STATE_SIZE),
        "key_points": 0 if points is None else points.shape[1] // 5,
    }


def _metrics(report: checks.Quality) -> dict[str, float]:
    return {
        "episodes": len(report.kept),
        "frames": report.frames,
        "frame_rate": report.frame_rate,
        "set_aside": len(report.set_aside),
        "bad_share": round(report.bad_share, 4),
        "idle_share": report.idle_share,
        "still_channels": len(report.still_channels),
    }
