"""One episode to watch: any policy by name, through the rollout that evaluation uses, inference delay included.

A video is written whatever acts: what the policy saw on the left, the robot from outside on the right.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from psi0.errors import Psi0Error
from psi0.evaluate.controls import CONTROLS
from psi0.evaluate.evaluation import pace, simulator_setup
from psi0.evaluate.resolve import PolicySpec, resolve
from psi0.evaluate.rollout import Pace, World, run_episode
from psi0.evaluate.video import Film
from psi0.evaluate.worker import Arm, Bench, Setup
from psi0.files import write_bytes
from psi0.params import Params, check_task
from psi0.policy import Policy
from psi0.sim.variation import check_level
from psi0.sim.world import World as SimulatedWorld
from psi0.watch.keyboard import Keyboard
from psi0.watch.keys import KEY_HELP, Keys, WindowKeys, open_keys
from psi0.watch.window import Window, check_display

KEYBOARD = "keyboard"
STOPPED = "stopped"
_HEIGHT, _WIDTH = 288, 384
"""Each half of the video [pixels]."""
_DRIVING_SECONDS = 600
"""A person at the keys gets longer than the task's own time."""


class _Stopped(Exception):  # noqa: N818  (a person's wish, not an error)
    """Whoever watches wants no more."""


@dataclass(frozen=True)
class Played:
    """How an episode ended: `tag` as in evaluation, or `stopped` by whoever watched; `detail` says more, for people."""

    video: Path
    success: bool
    tag: str
    steps: int
    detail: str = ""


def play(
    params: Params,
    task: str,
    seed: int,
    policy: str,
    video: Path,
    level: str | None = None,
    control: str = "none",
    view: bool = False,
    lookup: Callable[[str], Path] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Played:
    """Play the episode of a seed and write its video.

    Args:
        policy: a name that `psi0.evaluate.resolve` knows, or `keyboard`, driven by the keys of standard input.
        level: None takes that of `params.evaluation`.
        control: what is taken away from what the policy sees.
        view: show it in MuJoCo's viewer too, as fast as a clock; closing the window ends the episode.
        lookup: turns `models:/NAME@ALIAS` into a folder on this machine.
        say: told what a person at the keys should read, a line at a time.

    Raises:
        Psi0Error: unknown task, level, control or policy; no display; a seed whose scene does not come to rest.
    """
    check_task(task)
    if control not in CONTROLS:
        raise Psi0Error(f"control {control!r} does not exist; controls: {', '.join(CONTROLS)}")
    if level is not None:
        evaluation = params.evaluation.model_copy(update={"level": check_level(level)})
        params = params.model_copy(update={"evaluation": evaluation})
    if video.is_dir():
        raise Psi0Error(f"--out {video} is a folder; name a file, for example {video / 'episode.mp4'}")
    if view:
        check_display()
    with ExitStack() as stack:
        keys: Keys | None = None
        if policy == KEYBOARD:
            keys = stack.enter_context(open_keys())
            keys = WindowKeys(keys) if view else keys
            make, rhythm = cast("Callable[[World], Policy]", _Driver(keys, say)), Pace(1, 0)
        else:
            spec = _resolve(policy, params.control.chunk, lookup)
            make, rhythm = spec, pace(params, spec)
        setup = replace(simulator_setup(params, task, ()), arms=(Arm("watched", make, rhythm, control),))
        return _Episode(setup, seed, view, keys).run(video, say)


def _resolve(name: str, chunk: int, lookup: Callable[[str], Path] | None) -> PolicySpec:
    """As in evaluation; where nothing like that exists, the keyboard is named too."""
    try:
        return resolve(name, chunk, lookup)
    except Psi0Error as error:
        if ":" in name or Path(name).exists():
            raise
        raise Psi0Error(f"{error}; or {KEYBOARD}, to drive yourself") from None


@dataclass(frozen=True)
class _Driver:
    """Makes the keyboard's policy for a world."""

    keys: Keys
    say: Callable[[str], None]

    def __call__(self, world: SimulatedWorld) -> Keyboard:
        world.max_steps = _DRIVING_SECONDS * world.policy_hz
        return Keyboard(world, self.keys, self.say)


class _Episode:
    """One episode with everything that happens after each of its control steps."""

    def __init__(self, setup: Setup, seed: int, view: bool, keys: Keys | None) -> None:
        self._arm, self._seed = setup.arms[0], seed
        self._rate, self._invalid = setup.frames_per_second, setup.invalid_seed
        made, self._policy, self._eyes = Bench(setup).prepare(self._arm)
        self._world = cast(SimulatedWorld, made)
        self._film = Film(self._eyes, self._rate, _HEIGHT, _WIDTH)
        self._view, self._keys = view, keys
        self._window: Window | None = None
        self._begun = 0.0

    def run(self, video: Path, say: Callable[[str], None]) -> Played:
        """Play it to its end and write the video. Raises `Psi0Error` where the seed's scene does not come to rest."""
        if self._keys is not None:
            say(KEY_HELP)
        try:
            played = self._play(video)
        except self._invalid as error:
            raise Psi0Error(f"seed {self._seed} is invalid: {error}; take another --seed") from None
        finally:
            if self._window is not None:
                self._window.close()
        if self._world.steps == 0:
            self._film(self._world)
        write_bytes(video, self._film.encode())
        return played

    def _play(self, video: Path) -> Played:
        try:
            episode = run_episode(
                self._world, self._policy, self._eyes, self._seed, self._arm.pace, lambda world: self._after_step()
            )
        except (_Stopped, KeyboardInterrupt):
            return Played(video, False, STOPPED, self._world.steps)
        row = episode.row
        return Played(video, row.success, row.tag, row.steps, episode.detail)

    def _after_step(self) -> None:
        self._film(self._world)
        if self._view:
            self._show()
        if self._view or (self._keys is not None and self._keys.live):
            self._wait()
        if isinstance(self._policy, Keyboard) and self._policy.stopped:
            raise _Stopped

    def _show(self) -> None:
        """The window opens after the first step: only then does the scene of this seed stand."""
        if self._window is None:
            on_key = self._keys.callback if isinstance(self._keys, WindowKeys) else None
            self._window = Window(self._world, on_key)
        if not self._window.is_open:
            raise _Stopped
        self._window.show()

    def _wait(self) -> None:
        """Until this step is over by the clock; where drawing takes longer, time runs slower instead of in leaps."""
        now = time.monotonic()
        due = self._begun + 1.0 / self._rate
        if now < due:
            time.sleep(due - now)
        self._begun = max(due, now)
