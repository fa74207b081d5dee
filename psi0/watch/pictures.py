"""Strips of pictures: the robot doing a task, from the side and through its head camera."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from psi0.errors import Psi0Error
from psi0.params import Camera, Params
from psi0.sim.demonstrators import make_demonstrator
from psi0.sim.world import InvalidSeed, World, make_world

_PICTURE_WIDTH, _SIDE_SHAPE = 400, 1.1
_SUPERSAMPLING = 2
GAP = 6
"""White between pictures side by side [pixels]."""

Image8 = NDArray[np.uint8]


def _reset(world: World, seed: int) -> None:
    try:
        world.reset(seed)
    except InvalidSeed as error:
        raise Psi0Error(f"seed {seed} is invalid: {error}; take another --seed") from None


def shrink(image: Image8) -> Image8:
    """A picture that was drawn for `head_camera`, in its final size."""
    size = image.shape[1] // _SUPERSAMPLING, image.shape[0] // _SUPERSAMPLING
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _moment(world: World, width: int) -> Image8:
    """Third person above, head camera below."""
    height = round(width * _SIDE_SHAPE) * _SUPERSAMPLING
    side = world.third_person(height, width * _SUPERSAMPLING, pretty=True)
    return np.concatenate([shrink(side), shrink(world.head_camera())])


def beside(pictures: list[Image8]) -> Image8:
    """Pictures of one height side by side, with a gap between them."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def head_camera(camera: Camera, width: int) -> Camera:
    """A head camera of the shape of `camera` for pictures `width` pixels wide, drawn larger and shrunk."""
    height = round(width * camera.height / camera.width)
    return Camera(width=width * _SUPERSAMPLING, height=height * _SUPERSAMPLING)


def strip(world: World, seed: int, moments: int, width: int) -> Image8:
    """`moments` pictures, each `width` wide, of the demonstrator doing the task of a world that renders
    `head_camera(camera, width)`, from start to success.

    Raises:
        Psi0Error: an invalid seed, or the demonstrator fails on it.
    """
    actor = make_demonstrator(world)
    _reset(world, seed)
    actor.reset(seed)
    outcome = None
    while outcome is None:
        outcome = world.step(actor.act(world.observe())[0])
    if not outcome.success:
        raise Psi0Error(f"the demonstrator fails on seed {seed} ({outcome.tag}); take another --seed")
    steps = world.steps
    shown = {math.floor(steps * share) for share in np.linspace(0.0, 0.97, moments)}
    world.reset(seed)
    actor.reset(seed)
    pictures = []
    for step in range(steps):
        if step in shown:
            pictures.append(_moment(world, width))
        world.step(actor.act(world.observe())[0])
    return beside(pictures)


def picture(task: str, seed: int, params: Params, target: Path, moments: int = 4) -> None:
    """Write a strip of `moments` pictures of the demonstrator doing the task, from start to success.

    Raises:
        Psi0Error: unknown task, an invalid seed, a demonstrator that fails on it, or nothing to draw with.
    """
    world = make_world(task, params.control, head_camera(params.camera, _PICTURE_WIDTH))
    shown = strip(world, seed, moments, _PICTURE_WIDTH)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shown).save(target, optimize=True)
