"""A registered policy is a model like any other to MLflow: described by its schema, loaded without pickle."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from tiny_policy import HEIGHT, HORIZON, WIDTH

from psi0.export.runtime import GraphPolicy
from psi0.export.stage import export_folder
from psi0.params import Camera, Control, Export, Params
from psi0.policy import Observation
from psi0.registry.mlmodel import write_mlmodel


def test_mlflow_loads_the_graphs_and_checks_what_they_are_given(policy_folder: Path, tmp_path: Path) -> None:
    export_folder(policy_folder, tmp_path / "graphs", Export())
    camera = Camera(width=WIDTH, height=HEIGHT)
    write_mlmodel(tmp_path, Params(camera=camera, control=Control(chunk=HORIZON, execute=4)))
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".pkl", ".pickle", ".pt")]
    model = mlflow.pyfunc.load_model(str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    state = np.zeros((2, 32), np.float32)
    observations = {"head_camera": image, "state": state, "instruction": np.array(["pick up the can"] * 2)}
    actions = model.predict(observations, params={"seed": 3})["actions"]
    assert actions.shape == (2, HORIZON, 36)
    alone = GraphPolicy(tmp_path / "graphs")
    alone.reset(3)
    expected = alone.act(Observation(image[1], state[1], "pick up the can", 0, None, 0))
    np.testing.assert_array_equal(actions[1], expected)
    with pytest.raises(MlflowException, match="head_camera"):
        model.predict({**observations, "head_camera": image.astype(np.float32)})
