"""The guard: what the recipe makes of 80 demonstrations in its own budget does the task."""

from pathlib import Path

import pytest

from psi0.ablation.workspace import build, committed, prepare_workspace
from psi0.evaluate.arms_table import arrange, play
from psi0.evaluate.plan import register
from psi0.evaluate.resolve import resolve
from psi0.params import Params
from psi0.paths import graphs
from psi0.settings import settings

TASK, EPISODES, AT_LEAST = "pick_can", 40, 28


@pytest.mark.long
def test_the_recipe_of_default_parameters_makes_a_policy_that_does_the_task(
    in_repository: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built in a clone of what is committed; what DVC's cache holds from a recipe is not built again."""
    params = Params()
    workspace = prepare_workspace("guard", params, committed(Path("docs/results")))
    build(workspace, f"export@{TASK}", print)
    monkeypatch.chdir(workspace)
    settings.cache_clear()
    policy = resolve(str(graphs(TASK)), params.control.chunk)
    run = arrange(register(params, TASK).sha256, "guard", policy, EPISODES)
    try:
        found = play(params, TASK, run)
    finally:
        settings.cache_clear()
    assert found.delay_steps == 2 and found.summary.episodes == EPISODES
    assert found.summary.successes >= AT_LEAST
