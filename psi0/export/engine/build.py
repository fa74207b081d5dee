"""`build_engine`: the engines of one policy for one target, with a record of what was and was not shown."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from psi0.errors import Psi0Error
from psi0.export.engine.compiler import Compiler
from psi0.export.engine.targets import PRECISION, engine_key, get_target
from psi0.export.interface import GRAPHS, GUIDED
from psi0.files import publish_folder, read_json, sha256_file, write_bytes, write_json
from psi0.model.config import ModelConfig, parse_config
from psi0.model.manifest import check_manifest

RECORD = "engine.json"
Status = Literal["compiled", "executed", "absent"]


class EngineFile(ModelConfig):
    """One engine."""

    key: str = Field(description="Hash of ONNX graph, compute capability, TensorRT version and precision")
    onnx_sha256: str = Field(description="Graph it was compiled from")
    sha256: str = Field(description="The engine file itself")


class EngineRecord(ModelConfig):
    """`engine.json`: what lies in an engine folder, and how far it was proven."""

    target: str = Field(description="Target it was built for")
    status: Status = Field(
        description="`compiled`: built, never run; `executed`: its numbers were compared on such a GPU"
    )
    backend: str = Field(description="`tensorrt_rtx` or `tensorrt`")
    tensorrt_version: str = Field(description="Version of the compiler; the runtime's must be the same")
    compute_capability: str = Field(description="CUDA compute capability it runs on")
    precision: str = Field(description="Precision of the graphs (engines are strongly typed)")
    policy_sha256: str = Field(description="Policy the graphs were exported from")
    engines: dict[str, EngineFile] = Field(description="Per graph")


def find_graphs(folder: Path) -> Path:
    """The graph folder in a bundle, or the folder itself. Raises `Psi0Error` when neither holds graphs."""
    for candidate in (folder, folder / "graphs", folder / "onnx"):
        if (candidate / f"{GRAPHS[-1]}.onnx").is_file():
            return candidate
    raise Psi0Error(f"{folder} holds no exported graphs; give a bundle or a folder such as models/graphs/pick_can")


def build_engine(source: Path, target: str, out: Path) -> EngineRecord:
    """Compile the graphs of a bundle or graph folder into `out` (replaced as a whole), with `engine.json`.

    The status is `compiled`: compiling shows that the target accepts the graphs, not that their numbers are right.

    Args:
        source: bundle or graph folder.
        target: `rtx-portable`, `orin-nx` or `local`.
        out: engine folder.

    Raises:
        Psi0Error: unknown target, changed graphs, back end missing (with the equivalent `trtexec` lines), wrong GPU,
            or a graph that TensorRT refuses.
    """
    kind = get_target(target)
    folder = find_graphs(source)
    policy_sha256 = _check(folder)
    graphs = [folder / f"{name}.onnx" for name in GRAPHS]
    graphs += [file for file in [folder / f"{GUIDED}.onnx"] if file.is_file()]
    compiler = Compiler(kind, graphs, out)
    engines: dict[str, EngineFile] = {}
    with publish_folder(out) as staging:
        for graph in graphs:
            file = staging / f"{graph.stem}.engine"
            write_bytes(file, compiler.compile(graph))
            onnx_sha256 = sha256_file(graph)
            key = engine_key(onnx_sha256, compiler.capability, compiler.version)
            engines[graph.stem] = EngineFile(key=key, onnx_sha256=onnx_sha256, sha256=sha256_file(file))
        record = EngineRecord(
            target=target,
            status="compiled",
            backend=kind.backend,
            tensorrt_version=compiler.version,
            compute_capability=compiler.capability,
            precision=PRECISION,
            policy_sha256=policy_sha256,
            engines=engines,
        )
        write_json(staging / RECORD, record.model_dump(mode="json"))
    return record


def read_record(folder: Path) -> EngineRecord:
    """Read and check an engine folder. Raises `Psi0Error` for a missing or changed engine."""
    record = parse_config(read_json(folder / RECORD), EngineRecord, str(folder / RECORD))
    for name, engine in record.engines.items():
        file = folder / f"{name}.engine"
        if not file.is_file() or sha256_file(file) != engine.sha256:
            raise Psi0Error(f"{file} is missing or was changed; build the engine again")
    return record


def _check(folder: Path) -> str:
    """The policy's hash, from the graphs' manifest, whose files are checked."""
    return str(check_manifest(folder).get("policy_sha256", ""))
