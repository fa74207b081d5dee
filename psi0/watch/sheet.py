"""The contact sheet: every task from start to success, what the levels change, what the controls take away.

What a policy sees is taken from where a policy sees it: one that only looks is asked by the evaluation's own worker, so
a control that is added there is on the sheet by itself.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from psi0.errors import Psi0Error
from psi0.evaluate.baselines import holding_action
from psi0.evaluate.controls import CONTROLS
from psi0.evaluate.evaluation import simulator_setup
from psi0.evaluate.rollout import Pace, World
from psi0.evaluate.worker import Arm, Bench, Job
from psi0.params import Params, Scene
from psi0.policy import Observation
from psi0.sim.tasks import TASKS
from psi0.sim.variation import LEVELS, Level
from psi0.sim.world import make_world
from psi0.watch.pictures import GAP, Image8, beside, head_camera, shrink, strip

_MOMENTS, _WIDTH = 6, 200
_SHOWN_LEVEL: Level = "L1"
_CAPTION, _LINE, _LETTER, _COLORS = 18, 13, 6.2, 256
_MARGIN = 3
_NEEDS_A_CHOICE = ("wrong_instruction",)
"""Controls that are shown in scenes with two of a kind."""


def sheet(seed: int, params: Params, target: Path, tasks: Sequence[str] = tuple(TASKS)) -> None:
    """Write one picture: a strip per task at level L1, then what a policy sees first at every level and under every
    control, with what it is told.

    Raises:
        Psi0Error: the seed is invalid for a task, its demonstrator fails on it, or nothing can draw.
    """
    rows = []
    for name in tasks:
        world = make_world(name, params.control, head_camera(params.camera, _WIDTH), _SHOWN_LEVEL)
        rows.append(_titled(f"{name}, {_SHOWN_LEVEL}, seed {seed}", strip(world, seed, _MOMENTS, _WIDTH)))
        world.close()
    width = rows[0].shape[1]
    for level in LEVELS:
        rows.append(_looks(f"level {level}, first picture", tasks, seed, params, level, CONTROLS[0], width))
    for control in CONTROLS[1:]:
        title = f"control {control} at {_SHOWN_LEVEL}: what the policy sees first, and is told"
        rows.append(_looks(title, tasks, seed, params, _SHOWN_LEVEL, control, width))
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = Image.fromarray(np.concatenate(rows))
    whole.quantize(_COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, optimize=True)


class Onlooker:
    """A policy that remembers what it is first shown, and stands still."""

    privileged = False

    def __init__(self) -> None:
        self.seen: Observation | None = None

    def reset(self, seed: int) -> None:
        """Forget what it was shown."""
        self.seen = None

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Stand `(1, 36)`, for the first picture only: then the episode is over."""
        if self.seen is not None:
            raise StopIteration("has seen enough")
        self.seen = observation
        return holding_action(observation.state)[None]


def first_sight(params: Params, task: str, control: str, seed: int) -> Observation | str:
    """What a policy is shown first under a control at the level of `params`; or why this task has no such control.

    Raises:
        Psi0Error: the seed is invalid for the task, or the control cannot be put in place for it.
    """
    onlooker = Onlooker()

    def make(world: World) -> Onlooker:
        return onlooker

    setup = simulator_setup(params, task, ())
    answer = Bench(replace(setup, arms=(Arm("onlooker", make, Pace(1, 0), control),))).run(Job("onlooker", seed))
    if answer.kind == "fatal":
        return answer.message
    if onlooker.seen is None:
        raise Psi0Error(f"{task}, control {control}, seed {seed}: {answer.message}; take another --seed")
    return onlooker.seen


def _looks(
    title: str, tasks: Sequence[str], seed: int, params: Params, level: Level, control: str, width: int
) -> Image8:
    """One row with a column per task."""
    size = (width - GAP * (len(tasks) - 1)) // max(len(tasks), 3)
    camera = head_camera(params.camera, size)
    shown = params.model_copy(
        update={
            "camera": camera,
            "evaluation": params.evaluation.model_copy(update={"level": level}),
            "scene": Scene(objects=2) if control in _NEEDS_A_CHOICE else params.scene,
        }
    )
    cells = []
    for name in tasks:
        seen = first_sight(shown, name, control, seed)
        if isinstance(seen, str):
            cells.append(_with_words(np.full((camera.height // 2, size, 3), 255, np.uint8), f"{name}: {seen}"))
        else:
            cells.append(_with_words(shrink(seen.head_camera), f"{name}: “{seen.instruction}”"))
    tallest = max(cell.shape[0] for cell in cells)
    row = beside([_padded(cell, tallest, cell.shape[1]) for cell in cells])
    return _titled(f"{title}, seed {seed}", _padded(row, tallest, width))


def _padded(picture: Image8, height: int, width: int) -> Image8:
    result = np.full((height, width, 3), 255, np.uint8)
    result[: picture.shape[0], : picture.shape[1]] = picture
    return result


def _with_words(picture: Image8, words: str) -> Image8:
    """A picture with words below it, broken into lines."""
    lines = textwrap.wrap(words, int(picture.shape[1] / _LETTER))
    below = Image.new("RGB", (picture.shape[1], _LINE * len(lines) + 2 * _MARGIN), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(below).text((_MARGIN, _MARGIN + number * _LINE), line, fill="black")
    return np.concatenate([picture, np.asarray(below)])


def _titled(title: str, picture: Image8) -> Image8:
    caption = Image.new("RGB", (picture.shape[1], _CAPTION), "white")
    ImageDraw.Draw(caption).text((_MARGIN, _MARGIN), title, fill="black")
    return np.concatenate([np.asarray(caption), picture])
