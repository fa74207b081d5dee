"""The MuJoCo world: scenes, head camera, tasks, demonstrators, recorders."""
