"""What is made: the schema of `params.yaml`. Every value here may change a result, and DVC tracks each.

Where and how fast things run (addresses, credentials, scratch folders) is `psi0.settings` and changes no result.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from psi0.errors import Psi0Error
from psi0.explain import did_you_mean, explain
from psi0.params.baselines import Baselines
from psi0.params.block import Block, Natural, Positive, Share
from psi0.params.learning import (
    FROM_SIZES,
    ChunkTraining,
    Finetune,
    Posttrain,
    Pretrain,
    System1,
    System2,
    Tokenizer,
    Training,
)
from psi0.seeds import TRAINING_SEEDS_END

__all__ = [
    "FROM_SIZES",
    "Baselines",
    "Block",
    "Camera",
    "ChunkTraining",
    "Control",
    "Demonstrations",
    "Evaluation",
    "Export",
    "Finetune",
    "Gate",
    "Params",
    "Posttrain",
    "Prepare",
    "Pretrain",
    "Promote",
    "Publish",
    "RawDataset",
    "Robot",
    "System1",
    "System2",
    "TaskThreshold",
    "Tokenizer",
    "Training",
    "check_task",
    "load_params",
    "parse_params",
]

PARAMS_FILE = Path("params.yaml")
RECIPE_TASKS = ("pick_can", "carry_place_can", "push_cart")
"""What `make recipe TASKS=all` makes."""
TASKS = (*RECIPE_TASKS, "open_drawer")
"""Tasks that the simulator knows."""
TASKS_WITH_A_CHOICE = ("pick_can", "carry_place_can")
"""Tasks that `scene.objects` applies to."""
RECORDER = "recorder"
"""The `source` of a dataset that is recorded in the simulator."""
WALKING = "walking"
"""The `robot.system0` of the pinned package; anything else is a folder."""
TRIES_PER_EPISODE = 4
"""Seeds that the recorder tries at most per episode that is wanted."""


class Control(Block):
    """How fast the policy acts and how far ahead it plans."""

    policy_hz: Positive = Field(10, description="Rate at which System-1's actions are executed [Hz]")
    chunk: Positive = Field(16, description="Actions per chunk (the horizon) [control steps]")
    execute: Positive = Field(3, description="Actions executed before the next chunk is asked for [control steps]")

    @model_validator(mode="after")
    def _executes_within_the_chunk(self) -> "Control":
        if self.execute > self.chunk:
            raise ValueError("control.execute must not exceed control.chunk; lower it")
        return self


class Camera(Block):
    """The head camera's image as recorded and as System-2 sees it."""

    width: Positive = Field(144, description="Image width [pixels]")
    height: Positive = Field(80, description="Image height [pixels]")


class Scene(Block):
    """What stands in the simulated scenes."""

    objects: Literal[1, 2] = Field(
        1, description="Cans (and places to put them) that the can tasks show; of two, the instruction names one"
    )


class Robot(Block):
    """The simulated robot model."""

    faces_per_mesh: Positive = Field(300, description="Triangles each visual mesh is decimated to")
    system0: str = Field(
        WALKING, description="Lower-body controller: `walking`, or a folder that holds AMO's three TorchScript files"
    )


class RawDataset(Block):
    """Where raw episodes come from, and how many the recorder makes."""

    source: str = Field(RECORDER, description="`recorder` (simulated), a folder, or an s3:// prefix of real data")
    format: Literal["auto", "egodex", "humanoid_everyday", "teleoperation", "unitree", "lerobot"] = Field(
        "auto", description="Layout of a folder or prefix; `auto` looks at the files"
    )
    source_hz: float = Field(0.0, ge=0, description="Frame rate of real data [Hz]; 0 takes it from the files")
    camera: str = Field("", description="Camera of real data with several; empty takes the most head-like one")
    episodes: Positive = Field(80, description="Episodes to record; of real data, the most to use")
    recorder_hz: Positive = Field(30, description="Frame rate of recorded episodes [Hz]; real data keeps its own")
    seed: Natural = Field(0, description="First seed of the recorder; training seeds lie below 500000")
    workers: Positive = Field(2, description="Processes that record side by side (does not change the bytes)")

    @model_validator(mode="after")
    def _seeds_are_for_training(self) -> "RawDataset":
        end = self.seed + TRIES_PER_EPISODE * self.episodes
        if self.source == RECORDER and end > TRAINING_SEEDS_END:
            raise ValueError(
                f"seed {self.seed} and episodes {self.episodes} lead to seed {end - 1} (up to {TRIES_PER_EPISODE} are"
                f" tried per episode); training seeds lie below {TRAINING_SEEDS_END}: lower one of them"
            )
        return self


class Demonstrations(RawDataset):
    """Demonstrations of the tasks to fine-tune on."""

    recorder_hz: Positive = Field(10, description="Frame rate of recorded episodes [Hz]; real data keeps its own")
    noise: float = Field(
        1.0, ge=0, description="Scale of the disturbance injected into execution (DART), labels stay clean"
    )
    recoveries: Share = Field(
        0.5, description="Share of episodes that begin after a mistake (a hand closed on nothing, a wrong place)"
    )


class Prepare(Block):
    """From raw episodes to LeRobot v3.0."""

    max_bad_share: Share = Field(0.1, description="Share of bad episodes above which the stage stops")
    video_codec: Literal["h264", "mpeg4"] = Field("h264", description="Codec of the prepared videos")
    video_quality: Annotated[int, Field(ge=0, le=40)] = Field(
        12, description="Quantiser of h264 videos (x264's CRF): lower is better and larger"
    )
    idle_speed: float = Field(0.02, ge=0, description="Below this joint speed a frame counts as idle [rad/s]")
    limit_tolerance: float = Field(
        0.2, ge=0, description="How far a joint may lie outside its limits before its episode is bad [rad]"
    )


class Export(Block):
    """From policy to ONNX graphs."""

    opset: Positive = Field(20, description="ONNX operator set")
    max_abs_error: float = Field(1e-4, gt=0, description="Largest difference to torch that is accepted (fp32)")


class Evaluation(Block):
    """The registered evaluation plan: what is run."""

    level: Literal["L0", "L1", "L2"] = Field("L0", description="Randomisation level of the scenes")
    inference_delay_ms: Natural = Field(
        160, description="Time between observation and the new chunk [ms], counted in control steps"
    )
    control_episodes: Positive = Field(30, description="Episodes per control")
    swap_distance: float = Field(
        0.15, ge=0, le=0.3, description="Control swapped_image: how far off the other scene's object is, at least [m]"
    )
    videos: Natural = Field(4, description="Episodes filmed per arm; of the policy every failure besides")
    workers: Positive = Field(2, description="Processes that run episodes side by side (does not change a result)")


class TaskThreshold(Block):
    """Success rates that the floor test tells apart."""

    p0: Share = Field(description="Success rate at which promotion is an error")
    p1: Share = Field(description="Success rate at which refusal is an error")

    @model_validator(mode="after")
    def _p0_below_p1(self) -> "TaskThreshold":
        if not 0 < self.p0 < self.p1 < 1:
            raise ValueError("0 < p0 < p1 < 1 must hold")
        return self


ControlName = Literal["blind", "swapped_image", "wrong_instruction", "script"]
EngineTarget = Literal["rtx-portable", "orin-nx", "local"]


def _ceilings() -> dict[ControlName, float]:
    return {"blind": 0.25, "swapped_image": 0.35, "wrong_instruction": 0.25, "script": 0.40}


def _thresholds() -> dict[str, TaskThreshold]:
    others = ("carry_place_can", "push_cart", "open_drawer")
    return {"pick_can": TaskThreshold(p0=0.75, p1=0.92), **{name: TaskThreshold(p0=0.70, p1=0.88) for name in others}}


def _engines() -> list[EngineTarget]:
    return ["rtx-portable"]


class Gate(Block):
    """The registered plan: how it is judged."""

    thresholds: dict[str, TaskThreshold] = Field(
        default_factory=_thresholds,
        description="p0 and p1 per task",
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Largest accepted rate of false promotions")
    beta: float = Field(0.10, gt=0, lt=0.5, description="Largest accepted rate of false refusals")
    n_max: Positive = Field(100, description="Episodes after which no decision means no promotion")
    fixed_n: Natural = Field(0, description="Episodes of the exact binomial test; 0 means sequential")
    control_ceilings: dict[ControlName, Share] = Field(
        default_factory=_ceilings,
        description="Upper 95 % confidence bound that each control must stay below (wrong_instruction: of two objects)",
    )
    compare_torch: bool = Field(
        False, description="Run the torch policy on the same seeds; a significant difference is a refusal"
    )


class Promote(Block):
    """From candidate to champion: the comparison is planned here, and taken from the candidate's own parameters."""

    approval: Literal["auto", "manual"] = Field(
        "auto", description="`manual`: the recipe waits in Prefect until a person promotes or refuses"
    )
    require: Literal["non_inferiority", "superiority"] = Field(
        "non_inferiority", description="What a candidate must show against the champion"
    )
    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Deficit of the success rate that still counts as not inferior"
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.05, description="Error rate of the comparison, over all tasks that one run decides together (Holm)"
    )
    episodes: Positive = Field(100, description="Fresh seeds that candidate and champion both run")


class Publish(Block):
    """The deployment bundle."""

    engines: list[EngineTarget] = Field(default_factory=_engines, description="Engine targets compiled into the bundle")


class Params(Block):
    """The whole of `params.yaml`."""

    profile: str = Field("tiny", description="Name of the profile this file came from")
    tasks: list[str] = Field(default_factory=lambda: ["pick_can"], min_length=1, description="Tasks to train and judge")
    control: Control = Field(default_factory=Control)
    camera: Camera = Field(default_factory=Camera)
    scene: Scene = Field(default_factory=Scene)
    robot: Robot = Field(default_factory=Robot)
    egodex: RawDataset = Field(default_factory=RawDataset)
    humanoid_everyday: RawDataset = Field(default_factory=RawDataset)
    demonstrations: Demonstrations = Field(default_factory=Demonstrations)
    prepare: Prepare = Field(default_factory=Prepare)
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)
    system2: System2 = Field(default_factory=System2)
    system1: System1 = Field(default_factory=System1)
    pretrain: Pretrain = Field(default_factory=Pretrain)
    posttrain: Posttrain = Field(default_factory=Posttrain)
    finetune: Finetune = Field(default_factory=Finetune)
    baselines: Baselines = Field(default_factory=Baselines)
    export: Export = Field(default_factory=Export)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    gate: Gate = Field(default_factory=Gate)
    promote: Promote = Field(default_factory=Promote)
    publish: Publish = Field(default_factory=Publish)

    def objects(self, task: str) -> int:
        """How many of a kind the scenes of a task show."""
        return self.scene.objects if task in TASKS_WITH_A_CHOICE else 1

    def control_ceilings(self, task: str) -> dict[str, float]:
        """The controls that a task is judged by, each with its ceiling: only of two can the wrong one be named."""
        chosen = self.objects(task) > 1
        return {str(n): c for n, c in self.gate.control_ceilings.items() if chosen or n != "wrong_instruction"}

    @model_validator(mode="after")
    def _tasks_are_known(self) -> "Params":
        for task in {*self.tasks, *self.gate.thresholds}:
            try:
                check_task(task)
            except Psi0Error as error:
                raise ValueError(f"{'tasks' if task in self.tasks else 'gate.thresholds'}: {error}") from None
        for task in self.tasks:
            if self.tasks.count(task) > 1:
                raise ValueError(f"tasks: {task!r} stands there more than once; remove one")
            if task not in self.gate.thresholds:
                raise ValueError(f"gate.thresholds has no entry for task {task!r}; add its p0 and p1")
        return self

    @model_validator(mode="after")
    def _blocks_fit_together(self) -> "Params":
        recorded = self.demonstrations.source == RECORDER
        if recorded and self.demonstrations.recorder_hz != self.control.policy_hz:
            raise ValueError(
                f"demonstrations.recorder_hz is {self.demonstrations.recorder_hz} but control.policy_hz is "
                f"{self.control.policy_hz}; demonstrations are recorded at the rate at which they are executed: make "
                "them equal"
            )
        if self.finetune.max_delay > self.control.chunk:
            raise ValueError(
                f"finetune.max_delay {self.finetune.max_delay} exceeds control.chunk {self.control.chunk}; lower it"
            )
        return self


def check_task(task: str) -> str:
    """Return `task` if the simulator knows it. Raises `Psi0Error` with the nearest name otherwise."""
    if task in TASKS:
        return task
    raise Psi0Error(f"task {task!r} does not exist; {did_you_mean(task, TASKS)}")


def parse_params(content: dict[str, Any], source: str) -> Params:
    """Validate a mapping. Raises `Psi0Error` naming every wrong field with its remedy."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise Psi0Error(explain(error, source, Params)) from None


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate `params.yaml`. Raises `Psi0Error` naming the file and every wrong field."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise Psi0Error(f"{path} is missing; `psi0 params use tiny` writes the default") from None
    except yaml.YAMLError as error:
        raise Psi0Error(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise Psi0Error(f"{path} must hold a mapping of blocks; `psi0 params use tiny` writes the default")
    return parse_params(content, str(path))
