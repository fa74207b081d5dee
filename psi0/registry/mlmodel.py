"""`MLmodel`: what a registered policy takes and gives, in MLflow's own words, and how MLflow loads it.

MLflow's page shows it as the version's schema, and `mlflow.pyfunc.load_model("models:/psi0-pick_can@champion")` returns
a policy that answers single observations. No pickle: the file names this module, which opens the exported graphs.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from numpy.typing import NDArray

from psi0.params import Params
from psi0.policy import Observation
from psi0.robot.layout import ACTION_SIZE, STATE_SIZE

_GRAPHS = "graphs"


def policy_signature(params: Params) -> ModelSignature:
    """Inputs and outputs of a policy, first axis the observation.

    `head_camera` uint8 RGB `(-1, height, width, 3)`, `state` float32 `(-1, 32)` [rad, m], `instruction` string `(-1,)`
    -> `actions` float32 `(-1, chunk, 36)`, absolute targets [rad, m, m/s, rad/s]. Parameter `seed` decides the noise.
    """
    camera, chunk = params.camera, params.control.chunk
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype("uint8"), (-1, camera.height, camera.width, 3), "head_camera"),
        TensorSpec(np.dtype("float32"), (-1, STATE_SIZE), "state"),
        TensorSpec(np.dtype("str"), (-1,), "instruction"),
    ]
    outputs: list[ColSpec | TensorSpec] = [TensorSpec(np.dtype("float32"), (-1, chunk, ACTION_SIZE), "actions")]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema([ParamSpec("seed", "long", 0)]))


def write_mlmodel(folder: Path, params: Params) -> None:
    """Write `MLmodel` into a folder that holds the exported graphs as `graphs/`."""
    model = Model(signature=policy_signature(params))
    model.add_flavor("python_function", loader_module=__name__, data=_GRAPHS)
    model.save(str(folder / MLMODEL_FILE_NAME))


class LoadedPolicy:
    """A policy as MLflow plays it: every observation is the first of its episode."""

    def __init__(self, graphs: Path) -> None:
        """Open a graph folder. Raises `Psi0Error` for one that was changed."""
        from psi0.export.runtime import GraphPolicy

        self._policy = GraphPolicy(graphs)

    def predict(self, observations: dict[str, NDArray[Any]], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Chunks of actions `(n, chunk, 36)` for n observations, as `policy_signature` names them."""
        seed = int((params or {}).get("seed", 0))
        chunks = []
        for image, state, words in zip(
            observations["head_camera"], observations["state"], observations["instruction"], strict=True
        ):
            self._policy.reset(seed)
            chunks.append(self._policy.act(Observation(image, state, str(words), 0, None, 0)))
        return {"actions": np.stack(chunks)}


def _load_pyfunc(graphs: str) -> LoadedPolicy:
    """What MLflow calls, with the folder that `MLmodel` names as `data`."""
    return LoadedPolicy(Path(graphs))
