"""How long the deployed graphs take on this machine: measured once, when a version is registered."""

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from psi0.params import Params
from psi0.policy import Observation
from psi0.robot.layout import STATE_SIZE

_WARM_UP = 3


def measure(graphs: Path, params: Params, calls: int = 30) -> dict[str, Any]:
    """Times of `GraphPolicy.act` on one thread, from image to chunk [ms].

    The numbers tell about this processor, not about a robot's; a target measures its own when it builds its engine.
    """
    from psi0.export.runtime import GraphPolicy

    policy = GraphPolicy(graphs, threads=1)
    policy.reset(0)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (params.camera.height, params.camera.width, 3), dtype=np.uint8)
    state = np.zeros(STATE_SIZE, np.float32)
    milliseconds = []
    for call in range(_WARM_UP + calls):
        observation = Observation(image, state, "measure how long it takes", call, None, 0)
        begin = time.perf_counter()
        policy.act(observation)
        milliseconds.append((time.perf_counter() - begin) * 1000)
    taken = np.array(milliseconds[_WARM_UP:])
    return {
        "schema_version": 1,
        "what": "one chunk, image to actions, ONNX Runtime on one CPU thread",
        "machine": platform.machine(),
        "calls": calls,
        "p50_ms": round(float(np.percentile(taken, 50)), 3),
        "p95_ms": round(float(np.percentile(taken, 95)), 3),
        "p99_ms": round(float(np.percentile(taken, 99)), 3),
    }
