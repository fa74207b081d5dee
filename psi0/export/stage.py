"""The export stage: a policy folder becomes a graph folder, with its parity to torch."""

from collections.abc import Sequence
from pathlib import Path

import torch

from psi0 import paths
from psi0.errors import Psi0Error
from psi0.export.graphs import Graph, export_graph, make_graphs
from psi0.export.parity import Golden, graph_error, make_golden, policy_errors, save_golden
from psi0.export.runtime import SYSTEM2_FILE, GraphPolicy
from psi0.files import publish_folder, read_json, write_bytes, write_json
from psi0.model import manifest, text
from psi0.model.config import write_config
from psi0.model.policy_config import CONFIG_FILE, LAYOUT_FILE, LINEAGE_FILE, NORMALIZER_FILE, Layout
from psi0.model.policy_folder import load_policy
from psi0.model.torch_policy import TorchPolicy
from psi0.params import Export, Params
from psi0.robot.limits import Limits, load_limits

_COPIED = (CONFIG_FILE, LAYOUT_FILE, NORMALIZER_FILE, SYSTEM2_FILE, text.FILE)


def export_policy(params: Params, task: str) -> None:
    """Stage `export`: `models/policy/<task>` -> `models/graphs/<task>`, within the limits of `data/robot`."""
    export_folder(paths.policy(task), paths.graphs(task), params.export, load_limits(paths.ROBOT))


def export_folder(policy_folder: Path, graph_folder: Path, options: Export, limits: Limits | None = None) -> None:
    """Export a policy folder: graphs, the files their runtime needs, golden observations and the parity report.

    Args:
        policy_folder: what `psi0.model.policy_folder.save_policy` wrote.
        graph_folder: where to; replaced as a whole.
        options: block `export` of `params.yaml`.
        limits: what the robot may be asked for; None keeps the limits of the policy's `layout.json`, if it has any.

    Raises:
        Psi0Error: a broken policy folder, an operator that TensorRT refuses, or a difference to torch above
            `export.max_abs_error`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with publish_folder(graph_folder) as folder:
            policy = load_policy(policy_folder)
            copy_settings(policy_folder, folder, policy.layout, limits)
            write_bytes(folder / LINEAGE_FILE, (policy_folder / LINEAGE_FILE).read_bytes())
            identity = read_json(policy_folder / manifest.FILE)["policy_sha256"]
            golden = make_golden(policy.config, policy.normalizer, TorchPolicy(policy).normalized)
            write_graphs(folder, make_graphs(policy), golden, identity, options)
    finally:
        torch.set_num_threads(threads)


def copy_settings(policy_folder: Path, folder: Path, layout: Layout, limits: Limits | None) -> None:
    """Copy what the runtime reads beside the graphs, the layout with the robot's limits in it."""
    for name in _COPIED:
        write_bytes(folder / name, (policy_folder / name).read_bytes())
    if limits is not None:
        ranges = {"action_low": limits.action_low.tolist(), "action_high": limits.action_high.tolist()}
        write_config(folder / LAYOUT_FILE, layout.model_copy(update=ranges))


def write_graphs(folder: Path, graphs: Sequence[Graph], golden: list[Golden], identity: str, options: Export) -> None:
    """Export graphs into a folder that holds their settings, with golden observations, parity report and manifest.

    Args:
        identity: hash of the policy that the graphs belong to.

    Raises:
        Psi0Error: an operator that TensorRT refuses, or a difference to torch above `export.max_abs_error`.
    """
    save_golden(golden, folder)
    metrics: dict[str, float] = {}
    errors: dict[str, float] = {}
    allowed = options.max_abs_error
    for graph in graphs:
        facts = export_graph(graph, folder, options.opset)
        metrics |= {f"{graph.name}_{fact}": value for fact, value in facts.items()}
        errors[graph.name] = graph_error(graph, folder / f"{graph.name}.onnx")
        _require(graph.name, errors[graph.name], allowed)
    manifest.write_manifest(folder, policy_sha256=identity)
    answers = policy_errors(GraphPolicy(folder), golden)
    errors["actions"] = max(answers)
    _require("actions", errors["actions"], allowed)
    report = {
        "schema_version": 1,
        "policy_sha256": identity,
        "precision": "float32",
        "opset": options.opset,
        "max_abs_error": errors,
        "max_abs_error_allowed": allowed,
        "golden_observations": [{"case": case, "max_abs_error": error} for case, error in enumerate(answers)],
        "passed": True,
    }
    write_json(folder / "parity.json", report)
    write_json(folder / "metrics.json", {"parity_max_abs_error": max(errors.values()), **metrics})
    manifest.write_manifest(folder, policy_sha256=identity)


def _require(name: str, error: float, allowed: float) -> None:
    """Stop when a graph's numbers are not torch's; an error that is not a number counts as too large."""
    if not error <= allowed:
        raise Psi0Error(
            f"{name}: the exported graph differs from torch by {error:.2e}, export.max_abs_error allows {allowed:.2e};"
            " export again, and report the policy if the difference stays"
        )
