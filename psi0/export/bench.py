"""How long a chunk takes, part by part: vision and language once, the expert once per Euler step."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from psi0.errors import Psi0Error
from psi0.export.graphs import Graph, export_graph, graphs_of, make_graphs
from psi0.export.interface import GRAPHS, INPUTS
from psi0.export.runtime import asked_inputs, load_graph
from psi0.model import euler
from psi0.model.policy_folder import load_policy
from psi0.model.untrained import untrained_expert, untrained_system2
from psi0.params import load_params
from psi0.profiles import load_profile
from psi0.robot.layout import STATE_SIZE

TORCH, ONNX_RUNTIME = "torch", "onnxruntime"
_WARM_UP = 2


@dataclass(frozen=True)
class PartTimes:
    """One part under one runtime.

    Attributes:
        part: a graph's name (`psi0.export.interface`).
        runtime: `torch` or `onnxruntime`.
        threads: CPU threads.
        calls: of this part in one chunk.
        milliseconds: smallest and median time of one call [ms].
    """

    part: str
    runtime: str
    threads: int
    calls: int
    milliseconds: tuple[float, float]


@dataclass(frozen=True)
class Subject:
    """What is timed: the graphs, how often the expert runs per chunk, and the ONNX operator set."""

    graphs: list[Graph]
    euler_steps: int
    opset: int


def subject(folder: Path | None, profile: str | None) -> Subject:
    """A policy folder's graphs, or those of a profile's sizes with random weights.

    Raises:
        Psi0Error: both or neither are given, or what is given cannot be read.
    """
    if folder is not None and profile is None:
        policy = load_policy(folder)
        return Subject(make_graphs(policy), policy.config.euler_steps, load_params().export.opset)
    if folder is None and profile is not None:
        everything = load_profile(profile)
        system2 = untrained_system2(everything)
        expert = untrained_expert(everything, everything.control.chunk, system2.config.hidden_size)
        steps = everything.system1.euler_steps
        graphs = graphs_of(system2, expert, euler.schedule(steps), STATE_SIZE)
        return Subject(graphs, steps, everything.export.opset)
    raise Psi0Error("give either a policy folder or --profile")


def bench(what: Subject, threads: Sequence[str], runtimes: Sequence[str], calls: int) -> Iterator[PartTimes]:
    """Time every graph under every runtime and number of threads, on its example inputs.

    Args:
        what: to time.
        threads: numbers of CPU threads to try.
        runtimes: `torch`, `onnxruntime`; the latter exports each graph to a temporary folder first.
        calls: timed calls.

    Raises:
        Psi0Error: an unknown runtime, or a number of threads that is none.
    """
    unknown = [one for one in runtimes if one not in (TORCH, ONNX_RUNTIME)]
    if unknown or not runtimes:
        raise Psi0Error(f"runtime {', '.join(unknown) or 'none'}: {TORCH} and {ONNX_RUNTIME} are known")
    if not all(one.isdigit() and int(one) > 0 for one in threads):
        raise Psi0Error(f"threads {','.join(threads)}: positive numbers are needed, with commas between them")
    with tempfile.TemporaryDirectory() as folder:
        for graph in what.graphs:
            each = what.euler_steps if graph.name == "s1_step" else 1
            if ONNX_RUNTIME in runtimes:
                export_graph(graph, Path(folder), what.opset)
            for runtime in runtimes:
                for count in map(int, threads):
                    with _runner(graph, runtime, count, Path(folder)) as run:
                        yield PartTimes(graph.name, runtime, count, each, _measure(run, calls))
            for file in Path(folder).iterdir():
                file.unlink()


@contextmanager
def _runner(graph: Graph, runtime: str, threads: int, folder: Path) -> Iterator[Callable[[], object]]:
    if runtime == TORCH:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield graph.run
        finally:
            torch.set_num_threads(before)
    else:
        session = load_graph(folder, graph.name, threads)
        inputs = dict(zip(INPUTS[graph.name], graph.examples, strict=True))
        fed = {name: inputs[name].numpy() for name in asked_inputs(session)}
        yield lambda: session.run(None, fed)


def _measure(run: Callable[[], object], calls: int) -> tuple[float, float]:
    taken = []
    for _ in range(_WARM_UP + calls):
        begin = time.perf_counter()
        run()
        taken.append((time.perf_counter() - begin) * 1000)
    return min(taken[_WARM_UP:]), float(np.median(taken[_WARM_UP:]))


def table(times: list[PartTimes]) -> list[str]:
    """One line per runtime and number of threads: each part, and the chunk [ms, median]."""
    head = f"{'':22} {'vision':>9} {'language':>9} {'observe':>9} {'expert step':>12} {'chunk':>9}"
    lines = [f"{head}  ms, median of calls"]
    for runtime, threads in dict.fromkeys((one.runtime, one.threads) for one in times):
        mine = {one.part: one for one in times if (one.runtime, one.threads) == (runtime, threads)}
        vision, language, observe, step = (mine[name].milliseconds[1] for name in GRAPHS)
        chunk = vision + language + observe + step * mine["s1_step"].calls
        title = f"{runtime}, {threads} thread{'s' if threads > 1 else ''}"
        lines.append(f"{title:22} {vision:9.2f} {language:9.2f} {observe:9.2f} {step:12.2f} {chunk:9.2f}")
    return lines
