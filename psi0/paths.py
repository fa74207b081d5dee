"""Where each stage of the DAG leaves its output, relative to the checkout (the same names as in `dvc.yaml`)."""

from pathlib import Path

ROBOT = Path("data/robot")
RAW_EGODEX = Path("data/raw/egodex")
RAW_HUMANOID_EVERYDAY = Path("data/raw/humanoid_everyday")
PREPARED_EGODEX = Path("data/prepared/egodex")
PREPARED_HUMANOID_EVERYDAY = Path("data/prepared/humanoid_everyday")
TOKENIZER = Path("models/tokenizer")
SYSTEM2 = Path("models/system2")
SYSTEM1 = Path("models/system1")
COTRAINED_SYSTEM2 = SYSTEM1 / "system2"
"""System-2 as stage 2 leaves it where it learns there (`posttrain.cotrain`); otherwise there is none."""


def raw_demonstrations(task: str) -> Path:
    """Raw teleoperation episodes of a task."""
    return Path("data/raw/demonstrations") / task


def prepared_demonstrations(task: str) -> Path:
    """LeRobot v3.0 dataset of a task."""
    return Path("data/prepared/demonstrations") / task


def policy(task: str) -> Path:
    """Policy folder of a task (torch weights)."""
    return Path("models/policy") / task


def graphs(task: str) -> Path:
    """ONNX graphs of a task's policy."""
    return Path("models/graphs") / task


def baseline(task: str, kind: str) -> Path:
    """A baseline on a task (`psi0 baseline train`); no stage makes or reads it."""
    return Path("models/baselines") / task / kind


def evaluation(task: str) -> Path:
    """Evaluation files and videos of a task."""
    return Path("evaluation") / task


def gate(task: str) -> Path:
    """Verdict and report of a task."""
    return Path("gate") / task
