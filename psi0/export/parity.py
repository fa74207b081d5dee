"""Do the exported graphs compute what torch computes? Golden observations, compared number by number."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from psi0.export.graphs import Graph
from psi0.export.interface import INPUTS
from psi0.export.runtime import GraphPolicy
from psi0.files import read_json, write_json
from psi0.model.normalizer import Normalizer
from psi0.model.policy_config import PolicyConfig
from psi0.policy import Observation

GOLDEN_ARRAYS, GOLDEN_WORDS = "golden.safetensors", "golden.json"
_INSTRUCTIONS = (
    "pick up the can",
    "Carry it to the table.",
    "",
    "pull the red box next to the left cart " * 8,
)


@dataclass(frozen=True)
class Golden:
    """One golden observation with the noise it is answered from and, once known, torch's answer.

    Attributes:
        observation: what the policy is shown.
        noise: `(1, horizon, 36)`.
        actions: normalised answer `(horizon, 36)` of the torch policy.
    """

    observation: Observation
    noise: NDArray[np.float32]
    actions: NDArray[np.float32]


Answer = Callable[[Observation, NDArray[np.float32]], NDArray[np.float32]]
"""(observation, noise) -> normalised actions `(horizon, 36)`: a policy's `normalized`."""


def make_golden(config: PolicyConfig, scales: Normalizer, answer: Answer) -> list[Golden]:
    """Golden observations: random images of many scales, states in range, early, late and hopelessly late answers.

    Args:
        config: how the policy is run.
        scales: its normaliser.
        answer: what it answers in torch.
    """
    draw = np.random.default_rng(0)
    delays = (0, 1, max(config.max_delay - 1, 0), config.horizon + 3)
    golden = []
    for case, delay in enumerate(delays):
        coarse = draw.integers(0, 256, (2 + 3 * case, 3 + 4 * case, 3), dtype=np.uint8)
        rows = np.arange(config.camera_height) * len(coarse) // config.camera_height
        columns = np.arange(config.camera_width) * coarse.shape[1] // config.camera_width
        size = len(scales.action.center)
        previous = scales.action.denormalize(draw.uniform(-1, 1, (config.horizon - case, size)))
        observation = Observation(
            head_camera=np.ascontiguousarray(coarse[rows][:, columns]),
            state=scales.state.denormalize(draw.uniform(-1, 1, len(scales.state.center))),
            instruction=_INSTRUCTIONS[case],
            step=8 * case,
            previous_chunk=previous if case else None,
            delay=delay,
        )
        noise = draw.standard_normal((1, config.horizon, size), dtype=np.float32)
        golden.append(Golden(observation, noise, answer(observation, noise)))
    return golden


def save_golden(golden: list[Golden], folder: Path) -> None:
    """Write the golden observations as `golden.safetensors` (numbers) and `golden.json` (words, delays)."""
    arrays: dict[str, NDArray[Any]] = {}
    words = []
    for case, item in enumerate(golden):
        seen = item.observation
        numbers = {
            "head_camera": seen.head_camera,
            "state": seen.state,
            "noise": item.noise,
            "actions": item.actions,
        }
        if seen.previous_chunk is not None:
            numbers["previous_chunk"] = seen.previous_chunk
        arrays |= {f"{case}.{name}": np.ascontiguousarray(value) for name, value in numbers.items()}
        words.append({"instruction": seen.instruction, "step": seen.step, "delay": seen.delay})
    save_file(arrays, folder / GOLDEN_ARRAYS)
    write_json(folder / GOLDEN_WORDS, {"schema_version": 1, "cases": words})


def load_golden(folder: Path) -> list[Golden]:
    """Read what `save_golden` wrote."""
    arrays = load_file(folder / GOLDEN_ARRAYS)
    golden = []
    for case, words in enumerate(read_json(folder / GOLDEN_WORDS)["cases"]):
        observation = Observation(
            head_camera=arrays[f"{case}.head_camera"],
            state=arrays[f"{case}.state"],
            previous_chunk=arrays.get(f"{case}.previous_chunk"),
            **words,
        )
        golden.append(Golden(observation, arrays[f"{case}.noise"], arrays[f"{case}.actions"]))
    return golden


def policy_errors(policy: GraphPolicy, golden: list[Golden]) -> list[float]:
    """Largest absolute difference of normalised actions, per golden observation."""
    errors = []
    for item in golden:
        answer = policy.normalized(item.observation, item.noise)
        errors.append(float(np.abs(answer - item.actions).max()))
    return errors


def graph_error(graph: Graph, file: Path) -> float:
    """Largest absolute difference between a graph under ONNX Runtime and its module in torch, on its examples."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = {name: value.numpy() for name, value in zip(INPUTS[graph.name], graph.examples, strict=True)}
    pairs = zip(session.run(None, inputs), graph.run(), strict=True)
    return max(float(np.abs(ours - theirs.numpy()).max()) for ours, theirs in pairs)
