"""Compiling one ONNX graph with TensorRT-RTX or with full TensorRT, whose Python interfaces agree in what we use."""

from importlib import import_module
from pathlib import Path
from typing import Any

from psi0.errors import Psi0Error
from psi0.export.engine.targets import Backend, Target, local_capability

_MODULES: dict[Backend, str] = {"tensorrt_rtx": "tensorrt_rtx_bindings", "tensorrt": "tensorrt"}
WORKSPACE_BYTES = 2 << 30
"""Scratch memory the compiler may plan with; an Orin NX shares 8 or 16 GB between CPU and GPU."""


class Compiler:
    """A back end at hand on this machine.

    Attributes:
        version: full version of the back end.
        capability: compute capability that engines will be for.
    """

    def __init__(self, target: Target, graphs: list[Path], out: Path) -> None:
        """Find the back end of a target.

        Raises:
            Psi0Error: it is not installed, with what to install or the `trtexec` lines that do the same elsewhere; or
                this machine's GPU is not the target's.
        """
        try:
            self._trt: Any = import_module(_MODULES[target.backend])
        except (ImportError, OSError) as error:
            raise Psi0Error(_how_else(target, graphs, out, error)) from None
        self.version = str(self._trt.__version__)
        self.capability = _capability(target)
        self._problems: list[str] = []
        self._log = _make_log(self._trt, self._problems)

    def compile(self, graph: Path) -> bytes:
        """The engine of an ONNX graph. Raises `Psi0Error` naming the node or the reason when there is none."""
        trt = self._trt
        self._problems.clear()
        builder = trt.Builder(self._log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse_from_file(str(graph)):
            errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise Psi0Error(f"{graph}: TensorRT cannot read the graph ({errors}); export it again")
        config = builder.create_builder_config()
        if _MODULES["tensorrt"] == trt.__name__:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise Psi0Error(f"{graph}: TensorRT made no engine ({'; '.join(self._problems) or 'no reason given'})")
        return bytes(engine)


def trtexec_line(graph: Path, out: Path) -> str:
    """The command of TensorRT 10 that builds the same engine."""
    return f"trtexec --onnx={graph} --saveEngine={out / graph.stem}.engine --stronglyTyped"


def _make_log(trt: Any, problems: list[str]) -> Any:
    """A logger that keeps errors for the message and stays silent otherwise."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            # Without a GPU every call also complains about CUDA, which compiling does not need.
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR) and "cudaError" not in message:
                problems.append(message)

    return Log()


def _capability(target: Target) -> str:
    """The compute capability that engines will be for, checked against this machine."""
    if target.backend == "tensorrt_rtx":
        assert target.capability is not None
        return target.capability
    found = local_capability()
    if found is None:
        raise Psi0Error(f"target {target.name}: no CUDA GPU here; build on {target.where}")
    if target.capability not in (None, found):
        raise Psi0Error(
            f"target {target.name} has compute capability {target.capability}, this GPU {found};"
            f" build on {target.where}"
        )
    return found


def _how_else(target: Target, graphs: list[Path], out: Path, error: Exception) -> str:
    if target.backend == "tensorrt_rtx":
        return f"target {target.name} needs TensorRT-RTX ({error}); install it with: pip install 'psi0[engine]'"
    lines = "\n".join(f"  {trtexec_line(graph, out)}" for graph in graphs)
    return (
        f"target {target.name} needs TensorRT's Python package, which is not installed here ({error}). Run this on"
        f" {target.where}, or there:\n{lines}"
    )
