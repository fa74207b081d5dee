"""The one door to MuJoCo: `from psi0.robot.physics import mujoco`.

MuJoCo reads `MUJOCO_GL` while it is imported, so the rendering back end is chosen here, before: EGL when a display
of it can be opened, else OSMesa, else none. Whoever set `MUJOCO_GL` themselves is obeyed.
"""

import ctypes
import ctypes.util
import importlib
import os
import sys
from functools import cache

_EGL_PLATFORM_DEVICE = 0x313F
_MOST_DEVICES = 8


def _egl_opens() -> bool:
    """Whether libEGL is there and one of its devices can be initialised."""
    name = ctypes.util.find_library("EGL")
    if name is None:
        return False
    try:
        library = ctypes.CDLL(name)
        library.eglGetProcAddress.restype = ctypes.c_void_p
        library.eglGetProcAddress.argtypes = [ctypes.c_char_p]
        query = library.eglGetProcAddress(b"eglQueryDevicesEXT")
        display_of = library.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    except (OSError, AttributeError):
        return False
    if not query or not display_of:
        return False
    pointers = ctypes.c_void_p * _MOST_DEVICES
    devices, count = pointers(), ctypes.c_int()
    query_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    )(query)
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(display_of)
    if not query_devices(_MOST_DEVICES, devices, ctypes.byref(count)):
        return False
    library.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.eglInitialize.restype = ctypes.c_uint
    for device in devices[: count.value]:
        display = get_display(_EGL_PLATFORM_DEVICE, device, None)
        if display and library.eglInitialize(display, None, None):
            return True
    return False


def _osmesa_opens() -> bool:
    """Whether libOSMesa can be loaded."""
    for name in (ctypes.util.find_library("OSMesa"), "libOSMesa.so.8", "libOSMesa.so"):
        try:
            if name and ctypes.CDLL(name):
                return True
        except OSError:
            continue
    return False


@cache
def rendering_backend() -> str:
    """Name of the back end in use: `egl`, `osmesa`, another one set by `MUJOCO_GL`, or `disabled`."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if not chosen:
        chosen = "egl" if _egl_opens() else "osmesa" if _osmesa_opens() else "disabled"
        os.environ["MUJOCO_GL"] = chosen
    return chosen


_imported_before = "mujoco" in sys.modules
rendering_backend()
import mujoco as mujoco  # noqa: E402  (after the choice above)

if _imported_before:
    # Another library (mink, say) imported MuJoCo first: let it choose again.
    importlib.reload(importlib.import_module("mujoco.rendering.classic.gl_context"))
