"""From torch to ONNX files: static shapes, no operator that TensorRT refuses, the same bytes twice."""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from psi0.errors import Psi0Error
from psi0.export.interface import GUIDED, INPUTS, OUTPUTS
from psi0.export.static_graphs import LanguageGraph, VisionGraph
from psi0.model import euler
from psi0.model.guided_field import GuidedField
from psi0.model.planned_field import ObservedContext, PlannedField
from psi0.model.policy_folder import PolicyFolder
from psi0.model.system1 import ActionExpert
from psi0.model.system2 import System2

REFUSED_OPERATORS = ("NonZero", "ScatterND", "ScatterElements", "If", "Loop", "Scan", "GatherND")
"""Data-dependent shapes and control flow: TensorRT rejects or slows down on them."""
EMBEDDED_BYTES = 1 << 30
"""Graphs with more weights than this keep them in a file beside them; protobuf ends at 2 GiB."""
SMALL_BYTES = 1 << 16
"""Constants up to this stay in the graph: ONNX Runtime needs those that decide shapes when it reads it."""


def _padded(gradient: Tensor, sizes: list[int], axis: int, start: int, end: int, step: int) -> Tensor:
    """The backward pass of a slice without steps, as a padding: the stock one becomes a `ScatterND`."""
    assert step == 1
    behind = sizes[axis] - start - gradient.shape[axis]
    return functional.pad(gradient, [0, 0] * (gradient.ndim - 1 - axis) + [start, behind])


_NORM = (torch.ops.aten.native_layer_norm, torch.ops.aten.native_layer_norm_backward)
"""Written out where the backward pass needs mean and spread: TensorRT's takes no second output."""
_BACKWARD: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.slice_backward.default: _padded,
    **get_decompositions(_NORM),
}


@dataclass(frozen=True)
class Graph:
    """A network ready for export.

    Attributes:
        name: one of `psi0.export.interface`.
        module: in evaluation mode.
        examples: inputs of the shapes it will always have.
    """

    name: str
    module: nn.Module
    examples: tuple[Tensor, ...]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs this module really has."""
        return list(OUTPUTS[self.name])[: len(self.run())]

    @torch.no_grad()
    def run(self) -> tuple[Tensor, ...]:
        """The outputs for the examples."""
        outputs = self.module(*self.examples)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def make_graphs(policy: PolicyFolder) -> list[Graph]:
    """The graphs of a policy, with example inputs, and `s1_guided` where it is run with guidance."""
    levels = euler.schedule(policy.config.euler_steps, policy.config.schedule)
    graphs = graphs_of(policy.system2, policy.system1, levels, len(policy.normalizer.state.center))
    return [*graphs, guided_graph(graphs[-1])] if policy.config.guidance else graphs


def graphs_of(system2: System2, system1: ActionExpert, levels: NDArray[np.float32], state_size: int) -> list[Graph]:
    """The four graphs of two networks, with example inputs.

    Args:
        system2: vision and language.
        system1: the expert.
        levels: noise levels at which it will be run, `psi0.model.euler.schedule`.
        state_size: numbers of a state.
    """
    system2, system1 = system2.eval(), system1.eval()
    config = system2.config
    draw = torch.Generator().manual_seed(0)
    numbers = 3 * 2 * config.patch_size**2
    patches = torch.rand(config.image_tokens * config.merge**2, numbers, generator=draw) * 2 - 1
    vision = Graph("s2_vision", VisionGraph(system2), (patches,))
    image_tokens, deepstack = vision.run()
    length = config.image_tokens + config.max_text_tokens
    text_ids, text_mask = torch.ones(1, length, dtype=torch.int64), torch.ones(1, length)
    language = Graph("s2_language", LanguageGraph(system2), (text_ids, text_mask, image_tokens, deepstack))
    context, context_mask = language.run()[:2]
    sizes = system1.config
    actions = torch.randn(1, sizes.horizon, sizes.action_size, generator=draw)
    state = torch.randn(1, state_size, generator=draw)
    index, late = torch.tensor([(len(levels) - 1) // 2]), torch.ones(1, sizes.horizon)
    # One clean action among the others, so that parity covers both.
    late[:, 0] = 0
    observe = Graph("s1_observe", ObservedContext(system1).eval(), (state, context, context_mask))
    field = PlannedField(system1, torch.from_numpy(levels)).eval()
    step = Graph("s1_step", field, (actions, index, late, *observe.run()))
    return [vision, language, observe, step]


def guided_graph(step: Graph) -> Graph:
    """The graph of guided sampling beside that of a plain step: the backward pass, written out as operators."""
    assert isinstance(step.module, PlannedField)
    draw = torch.Generator().manual_seed(1)
    actions, index, _, *seen = step.examples
    target = torch.rand(actions.shape, generator=draw) * 2 - 1
    weight = torch.rand(*actions.shape[:2], 1, generator=draw)
    examples = (actions, index, *seen, target, weight)
    # Attention in plain operators: a fused one has no backward pass in ONNX.
    with sdpa_kernel(SDPBackend.MATH):
        module = make_fx(GuidedField(step.module), decomposition_table=_BACKWARD)(*examples)
    return Graph(GUIDED, module.eval(), examples)


def export_graph(graph: Graph, folder: Path, opset: int) -> dict[str, float]:
    """Write `<name>.onnx` into a folder and check it; returns its size and number of nodes.

    Raises:
        Psi0Error: the graph holds an operator of `REFUSED_OPERATORS`, or a shape that is not static.
    """
    with _quiet():
        program = torch.onnx.export(
            graph.module,
            graph.examples,
            dynamo=True,
            opset_version=opset,
            input_names=list(INPUTS[graph.name]),
            output_names=graph.output_names,
            verbose=False,
        )
    assert program is not None
    # The exporter notes source lines with this machine's paths at every node.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in [*program.model.graph.inputs, *program.model.graph.outputs]:
        value.metadata_props.clear()
    program.model.metadata_props.clear()
    program.model.graph.metadata_props.clear()
    path = folder / f"{graph.name}.onnx"
    # What the graph holds, not what its module does: layers that nothing calls are left out.
    constants = (value.const_value for value in program.model.graph.initializers.values())
    weights = sum(value.nbytes for value in constants if value is not None)
    beside = f"{path.name}.data" if weights > EMBEDDED_BYTES else None
    onnx_ir.save(program.model, path, external_data=beside, size_threshold_bytes=SMALL_BYTES)
    check_graph(path)
    size = sum(file.stat().st_size for file in folder.glob(f"{path.name}*"))
    return {"nodes": float(len(program.model.graph)), "bytes": float(size)}


def check_graph(path: Path) -> None:
    """Refuse a graph that is malformed, has a shape that is not static, or an operator TensorRT refuses.

    Raises:
        Psi0Error: naming the file and what is wrong.
    """
    onnx.checker.check_model(str(path))
    model = onnx.load(str(path), load_external_data=False)
    operators = Counter(node.op_type for node in model.graph.node)
    refused = [name for name in REFUSED_OPERATORS if operators[name]]
    if refused:
        raise Psi0Error(f"{path} holds the operators {', '.join(refused)}, which TensorRT does not take")
    for value in [*model.graph.input, *model.graph.output]:
        if any(not size.HasField("dim_value") for size in value.type.tensor_type.shape.dim):
            raise Psi0Error(f"{path}: the shape of {value.name} is not static")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on packages that are not installed out of a stage's log."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
