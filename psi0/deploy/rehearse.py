"""`psi0 bundle rehearse`: does a bundle play on this machine, and fast enough? Noise for images, nothing moves."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psi0.deploy.manifest import GRAPHS
from psi0.deploy.verify import verify_folder
from psi0.errors import Psi0Error
from psi0.files import read_json
from psi0.policy import Observation
from psi0.robot.layout import STATE_SIZE


@dataclass(frozen=True)
class Rehearsal:
    """What came out.

    Attributes:
        chunks: chunks that were asked for and answered.
        p50_ms: half of them took less, image to actions [ms].
        p99_ms: 99 of 100 took less [ms].
        judged_ms: delay that the policy was judged with [ms].
    """

    chunks: int
    p50_ms: float
    p99_ms: float
    judged_ms: float

    @property
    def in_time(self) -> bool:
        """Whether answers come within the delay that the policy was judged with."""
        return self.p99_ms <= self.judged_ms


def rehearse(bundle: Path, seconds: float, threads: int = 1) -> Rehearsal:
    """Verify a bundle and ask it for the chunks of an episode, with the overlap and delay it was judged with.

    Args:
        bundle: a bundle's folder.
        seconds: length of the episode [s].
        threads: CPU threads of ONNX Runtime.

    Raises:
        Psi0Error: the bundle is refused, its graphs do not load, or an action is not a finite number.
    """
    from psi0.export.runtime import GraphPolicy

    verify_folder(bundle)
    control = read_json(bundle / "control.json")
    policy = GraphPolicy(bundle / GRAPHS, threads)
    policy.reset(0)
    hertz, execute, camera = control["policy_hz"], control["execute"], control["camera"]
    delay = math.ceil(control["judged_inference_delay_ms"] * hertz / 1000)
    draw = np.random.default_rng(0)
    milliseconds, previous = [], None
    for number in range(max(1, math.ceil(seconds * hertz / execute))):
        image = draw.integers(0, 256, (camera["height"], camera["width"], 3), dtype=np.uint8)
        state = np.zeros(STATE_SIZE, np.float32)
        observation = Observation(image, state, "rehearse", number * execute, previous, delay if number else 0)
        begin = time.perf_counter()
        chunk = policy.act(observation)
        milliseconds.append((time.perf_counter() - begin) * 1000)
        if not np.isfinite(chunk).all():
            raise Psi0Error(f"{bundle}: chunk {number} holds numbers that are not finite; do not use it")
        previous = chunk[execute:] if execute < len(chunk) else None
    p50, p99 = np.percentile(milliseconds, (50, 99))
    return Rehearsal(len(milliseconds), float(p50), float(p99), float(control["judged_inference_delay_ms"]))
