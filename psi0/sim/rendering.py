"""Pictures of the simulated world, off screen: EGL, else OSMesa (see `psi0.robot.physics`)."""

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.robot.physics import mujoco, rendering_backend

os.environ.setdefault("LP_NUM_THREADS", "1")
"""llvmpipe's own threads: small pictures gain nothing from them, and episodes already run side by side."""

LARGEST_PICTURE = 1280
"""Edge of the off-screen buffer [pixels]."""

_NAMES = {"egl": "EGL", "osmesa": "OSMesa"}


def describe_rendering() -> str:
    """Which back end draws, for people."""
    backend = rendering_backend()
    return f"rendering with {_NAMES.get(backend, backend)}"


@cache
def describe_renderer() -> str:
    """The driver that draws and its version, as OpenGL names them; `none` where nothing can draw."""
    try:
        check_rendering()
        context = mujoco.GLContext(16, 16)
        context.make_current()
        # Only here is it sure that a back end was chosen that PyOpenGL must serve.
        from OpenGL import GL

        found = [GL.glGetString(name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
        context.free()
    except (Psi0Error, ImportError, AttributeError, RuntimeError, mujoco.FatalError):
        return "none"
    return ", ".join(name.decode() for name in found if name) or "unknown"


def check_rendering() -> None:
    """Raise `Psi0Error` that says what to install when nothing can draw."""
    if rendering_backend() in ("disabled", "disable", "off", "false", "0"):
        raise Psi0Error("no EGL and no OSMesa to draw with: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)")


@dataclass(frozen=True)
class Capsule:
    """Something drawn that is not in the model: a capsule between two points `(3,)` [m]."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: float
    color: list[float]


class Renderer:
    """Draws one model at one size. Plain shading (no shadow, no reflection) is five times as fast as pretty.

    Raises:
        Psi0Error: nothing can draw here, or the picture is larger than the off-screen buffer.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, pretty: bool = False) -> None:
        check_rendering()
        if max(height, width) > LARGEST_PICTURE:
            raise Psi0Error(f"pictures of {width}x{height} are too large; at most {LARGEST_PICTURE} pixels an edge")
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
            raise Psi0Error(
                f"{describe_rendering()} failed ({error}): apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
            ) from None
        # Also at exit, while Python is whole: contexts freed later complain.
        self._free = weakref.finalize(self, self._renderer.close)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = pretty

    def picture(
        self, data: mujoco.MjData, camera: str | mujoco.MjvCamera, extra: Sequence[Capsule] = ()
    ) -> NDArray[np.uint8]:
        """RGB `(height, width, 3)` of what a camera sees, `extra` capsules included."""
        # MuJoCo lays an endless floor around where the camera was at the last update: only a second update makes the
        # picture a function of this moment alone.
        for _ in range(2):
            self._renderer.update_scene(data, camera)
        for capsule in extra:
            self._add(capsule)
        return self._renderer.render().copy()

    def _add(self, capsule: Capsule) -> None:
        scene, kind = self._renderer.scene, mujoco.mjtGeom.mjGEOM_CAPSULE
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom, kind, np.zeros(3), np.zeros(3), np.eye(3).flatten(), np.array(capsule.color, np.float32)
        )
        mujoco.mjv_connector(geom, kind, capsule.radius, capsule.start, capsule.end)
        scene.ngeom += 1

    def close(self) -> None:
        """Free the graphics context."""
        self._free()
