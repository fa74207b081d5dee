"""MuJoCo's viewer as a window on a world that something else moves."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from psi0.errors import Psi0Error
from psi0.robot.physics import mujoco
from psi0.sim.world import World

_DISTANCE, _AZIMUTH, _ELEVATION, _LOOK_AT_HEIGHT = 3.0, 130.0, -18.0, 0.8
"""Where the window looks from at first: metres and degrees around a point above where the robot stands."""
_REMEDY = "start it in a desktop session or through `ssh -X`, or leave --view out and open the video"


def check_display() -> None:
    """Raise `Psi0Error` that says what to do where no window can be opened."""
    if sys.platform == "darwin":
        if getattr(importlib.import_module("mujoco.viewer"), "_MJPYTHON", None) is None:
            raise Psi0Error("--view: macOS lets only MuJoCo's own Python open it: `mjpython -m psi0.cli sim play ...`")
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise Psi0Error(f"--view: no display here (DISPLAY and WAYLAND_DISPLAY are not set): {_REMEDY}")
    glfw: Any = importlib.import_module("glfw")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = bool(glfw.init())
    if not opened:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        raise Psi0Error(f"--view: display {display!r} cannot be opened: {_REMEDY}")
    glfw.terminate()


class Window:
    """A window that shows a world's state as it was at the last `show`; the mouse turns and moves the view.

    Args:
        on_key: called with GLFW's key codes, in the window's own thread.
    """

    def __init__(self, world: World, on_key: Callable[[int], None] | None = None) -> None:
        viewer: Any = importlib.import_module("mujoco.viewer")
        self._handle: Any = viewer.launch_passive(
            world.model, world.data, key_callback=on_key, show_left_ui=False, show_right_ui=False
        )
        with self._handle.lock():
            camera = self._handle.cam
            camera.type = mujoco.mjtCamera.mjCAMERA_FREE
            camera.lookat[:] = (*world.data.qpos[:2], _LOOK_AT_HEIGHT)
            camera.distance, camera.azimuth, camera.elevation = _DISTANCE, _AZIMUTH, _ELEVATION

    @property
    def is_open(self) -> bool:
        """False once its cross was clicked."""
        return bool(self._handle.is_running())

    def show(self) -> None:
        """Show the world as it is now."""
        if self.is_open:
            self._handle.sync()

    def close(self) -> None:
        """Close it, if it is open."""
        if self.is_open:
            self._handle.close()
