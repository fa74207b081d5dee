"""Our action expert against a plain restatement of the published one, in the same run, on one thread.

Run: `python -m benchmarks.expert` (add `--paper` for the full width: 2 GB per copy).

The restatement (`benchmarks.plain_expert`) is run in torch. Before anything is timed it and ours must agree, and both
must reproduce the recorded outputs of the published head. The rows:

- forward and backward: what training does with a batch under training-time real-time chunking. Every sample has a noise
  level and a clean prefix. The restatement is told a level per action, ours a level per sample and which actions have
  it. Gradients start empty, as after an optimizer's step.
- sample of 10 steps: noise to actions in torch, without a prefix.
- sample of 10 steps, exported graph: the same, ours as the graph that is deployed, under ONNX Runtime.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.plain_expert import Plain
from psi0.export.graphs import Graph, export_graph
from psi0.export.interface import OUTPUTS
from psi0.export.runtime import load_graph
from psi0.model import euler
from psi0.model.config import System1Config
from psi0.model.flow import sample_actions
from psi0.model.planned_field import ObservedContext, PlannedField
from psi0.model.published import computed_constants, from_published, published_names, read_sizes, to_published
from psi0.model.published_check import LIMIT
from psi0.model.system1 import ActionExpert
from psi0.params import Export

FIXTURE = Path("tests/model/fixtures/official_action_head")
STEPS = 10
LONGEST_PREFIX = 5
PAPER_CALLS = 5
INPUTS = ("actions", "vlm_features", "vlm_mask", "state")
"""As the published head takes them."""
Inputs = dict[str, Tensor]
Array = NDArray[np.float32]


def ratios(plain: Callable[[], object], ours: Callable[[], object], calls: int) -> tuple[float, float, float, float]:
    """Times of both, taken in turns [ms]: the smallest of each, and the smallest and median ratio."""
    taken: list[tuple[float, float]] = []
    for turn in range(calls + 3):
        pair = []
        for run in (plain, ours):
            begin = time.perf_counter()
            run()
            pair.append((time.perf_counter() - begin) * 1000)
        if turn >= 3:
            taken.append((pair[0], pair[1]))
    each = [a / b for a, b in taken]
    return min(a for a, _ in taken), min(b for _, b in taken), min(each), statistics.median(each)


def row(title: str, plain: Callable[[], object], ours: Callable[[], object], calls: int) -> None:
    """Time both and print one line."""
    theirs, mine, smallest, median = ratios(plain, ours, calls)
    print(f"  {title:34} plain {theirs:9.2f} ms, ours {mine:9.2f} ms: {median:.2f}x median, {smallest:.2f}x smallest")


def agree(what: str, found: Tensor, expected: Tensor) -> None:
    """Stop when the difference's norm is above `LIMIT` of what is expected."""
    difference = float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))
    if not difference <= LIMIT:
        raise SystemExit(f"{what}: both differ by {difference:.1e} of its norm")


def compare_learning(plain: Plain, expert: ActionExpert, inputs: Inputs, calls: int) -> None:
    """Velocities and gradients of both, then how long they take."""
    noise, features, mask, state = (inputs[name] for name in INPUTS)
    draw = torch.Generator().manual_seed(0)
    level = torch.rand(len(noise), generator=draw)
    late = torch.arange(noise.shape[1]) >= torch.randint(1, LONGEST_PREFIX + 1, (len(noise), 1), generator=draw)
    levels = level[:, None] * late

    def learn_plain() -> Tensor:
        for weight in plain.weights.values():
            weight.grad = None
        velocity = plain.velocity(noise, levels * 1000, features, mask, state)
        velocity.square().mean().backward()
        return velocity.detach()

    def learn_ours() -> Tensor:
        for weight in expert.parameters():
            weight.grad = None
        velocity = expert.velocity(noise, level, features, mask > 0, state, late)
        velocity.square().mean().backward()
        return velocity.detach()

    agree("velocity", learn_ours(), learn_plain())
    for name, parameter in expert.named_parameters():
        parts = [plain.weights[theirs].grad for theirs in published_names(name)]
        assert parameter.grad is not None
        # The last block's observation queries, which ours has not, come last.
        agree(name, parameter.grad, torch.cat([part for part in parts if part is not None])[: len(parameter)])
    row("forward and backward", learn_plain, learn_ours, calls)


def compare_samples(plain: Plain, expert: ActionExpert, inputs: Inputs, calls: int) -> None:
    """A sample in torch, and for a single one as the graph that is deployed."""
    noise, features, mask, state = (inputs[name] for name in INPUTS)
    levels = torch.from_numpy(euler.schedule(STEPS))

    def sample_plain() -> Tensor:
        return plain.sample(noise, levels, features, mask, state)

    def sample_ours() -> Tensor:
        return sample_actions(expert, noise, levels, features, mask > 0, state)

    agree("sample", sample_ours(), sample_plain())
    row(f"sample of {STEPS} steps", sample_plain, sample_ours, calls)
    if len(noise) == 1:
        graph = exported(expert, levels, inputs)
        agree("sample of the graph", graph(inputs), sample_plain())
        row(f"sample of {STEPS} steps, exported graph", sample_plain, lambda: graph(inputs), calls)


def exported(expert: ActionExpert, levels: Tensor, like: Inputs) -> Callable[[Inputs], Tensor]:
    """A sampler over the exported graphs, on one thread, for single inputs of these shapes."""
    noise, features, mask, state = (like[name][:1] for name in INPUTS)
    observe = Graph("s1_observe", ObservedContext(expert).eval(), (state, features, mask))
    examples = (noise, torch.tensor([0]), torch.ones(noise.shape[:2]), *observe.run())
    step = Graph("s1_step", PlannedField(expert, levels).eval(), examples)
    with tempfile.TemporaryDirectory() as folder:
        for graph in (observe, step):
            export_graph(graph, Path(folder), Export().opset)
        look, session = (load_graph(Path(folder), graph.name, 1) for graph in (observe, step))

    def sample(inputs: Inputs) -> Tensor:
        noise, features, mask, state = (inputs[name].numpy() for name in INPUTS)
        found = look.run(None, {"state": state, "context": features, "context_mask": mask})
        seen = dict(zip(OUTPUTS[observe.name], found, strict=True))

        def velocity(actions: Array, step: int, late: Array) -> Array:
            return session.run(None, {"actions": actions, "step": np.array([step]), "late": late, **seen})[0]

        return torch.from_numpy(euler.sample(velocity, noise, levels.numpy()))

    return sample


def check(plain: Plain, expert: ActionExpert, recorded: Inputs) -> None:
    """The restatement, ours and its graph must give what was recorded from the published code."""
    levels, fixed = recorded["sigmas"], (recorded["vlm_features"], recorded["vlm_mask"], recorded["state"])
    graph = exported(expert, levels, recorded)
    each = [{name: recorded[name][index : index + 1] for name in INPUTS} for index in range(len(recorded["actions"]))]
    for name, found in (
        ("the restatement", plain.sample(recorded["actions"], levels, *fixed)),
        ("ours", sample_actions(expert, recorded["actions"], levels, fixed[0], fixed[1] > 0, fixed[2])),
        ("our graph", torch.cat([graph(one) for one in each])),
    ):
        difference = float((found - recorded["sampled_actions"]).abs().max())
        if not difference <= LIMIT:
            raise SystemExit(f"{name} differs from the recording by {difference:.1e}")
        print(f"  {name}: {difference:.1e} from the recorded sample")


def bandwidth() -> float:
    """Bytes per second that one thread reads."""
    block = torch.ones(1 << 28)
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        block.sum()
        taken.append(time.perf_counter() - begin)
    return block.numel() * 4 / min(taken)


def paper_size(calls: int) -> None:
    """The published width, random weights: the ratio beside what memory allows."""
    config = System1Config(schema_version=1, horizon=30, context_size=2048)
    expert = ActionExpert(config).eval()
    weights = {name: value.clone() for name, value in to_published(expert, computed_constants(expert)).items()}
    draw = torch.Generator().manual_seed(0)
    inputs = {
        "actions": torch.randn(1, 30, 36, generator=draw),
        "vlm_features": torch.randn(1, 100, 2048, generator=draw),
        "vlm_mask": torch.ones(1, 100),
        "state": torch.randn(1, 36, generator=draw),
    }
    size = sum(value.numel() * 4 for value in expert.parameters())
    print(f"paper width: {size / 1e9:.2f} GB of weights, {size / bandwidth() * 1000:.0f} ms at least to read them once")
    plain = Plain(weights, config.heads)
    compare_learning(plain, expert, inputs, calls)
    compare_samples(plain, expert, inputs, calls)


def main() -> None:
    """Print the machine, the check, and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--paper", action="store_true", help="the published width too")
    parser.add_argument("--calls", type=int, default=100, help="timed calls of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(f"torch {torch.__version__}, one thread"))
    weights, recorded = load_file(FIXTURE / "model.safetensors"), load_file(FIXTURE / "io.safetensors")
    expert = from_published(weights, read_sizes(FIXTURE / "config.json").ours()).expert.eval()
    plain = Plain(weights, expert.config.heads)
    check(plain, expert, recorded)
    one = {name: recorded[name][:1] for name in INPUTS}
    for batch in (1, 8):
        print(f"dimensions of the recording (width {expert.config.hidden_size}), batch {batch}")
        inputs = {name: value.repeat(batch, *[1] * (value.ndim - 1)) for name, value in one.items()}
        compare_learning(plain, expert, inputs, arguments.calls)
        compare_samples(plain, expert, inputs, arguments.calls)
    if arguments.paper:
        paper_size(min(arguments.calls, PAPER_CALLS))


if __name__ == "__main__":
    main()
