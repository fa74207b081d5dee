"""Where an engine can run, and what identifies one."""

import ctypes
from dataclasses import dataclass
from typing import Literal

from psi0.errors import Psi0Error
from psi0.files import sha256_json

Backend = Literal["tensorrt_rtx", "tensorrt"]
PORTABLE = "portable-8.0+"
PRECISION = "float32"
"""The exported graphs are fp32 and engines are built strongly typed, so the graph decides."""
_CUDA_MAJOR, _CUDA_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Attributes:
        name: as given to `psi0 engine build --target`.
        backend: Python package that compiles for it.
        capability: CUDA compute capability, or None for that of the machine at hand.
        where: what to tell a person who builds in the wrong place.
    """

    name: str
    backend: Backend
    capability: str | None
    where: str


TARGETS = {
    target.name: target
    for target in (
        Target("rtx-portable", "tensorrt_rtx", PORTABLE, "any x86-64 Linux machine; no GPU is needed to compile"),
        Target("orin-nx", "tensorrt", "8.7", "the robot's Orin NX itself: engines do not move between devices"),
        Target("local", "tensorrt", None, "the machine with the GPU that will run it"),
    )
}


def get_target(name: str) -> Target:
    """The target of a name. Raises `Psi0Error` with the known names."""
    if name not in TARGETS:
        raise Psi0Error(f"target {name!r} does not exist; targets: {', '.join(TARGETS)}")
    return TARGETS[name]


def engine_key(onnx_sha256: str, capability: str, tensorrt_version: str, precision: str = PRECISION) -> str:
    """What an engine is good for: the same key, and nothing else, may be loaded in its place."""
    return sha256_json(
        {
            "onnx_sha256": onnx_sha256,
            "compute_capability": capability,
            "tensorrt_version": tensorrt_version,
            "precision": precision,
        }
    )


def local_capability() -> str | None:
    """Compute capability of the first GPU, such as `8.9`, or None where there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    failed = cuda.cuDeviceGetAttribute(ctypes.byref(major), _CUDA_MAJOR, device)
    failed = failed or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CUDA_MINOR, device)
    return None if failed else f"{major.value}.{minor.value}"
