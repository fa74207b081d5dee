"""AMO's two TorchScript networks and the adapter's statistics, read from a folder and checked.

A TorchScript file is a program: it runs with the rights of this process, so take it from somebody you trust. This is
the one place of the robot's code that needs torch, and it is imported only where AMO is used.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error

if TYPE_CHECKING:
    import torch

POLICY_FILE = "amo_jit.pt"
ADAPTER_FILE = "adapter_jit.pt"
STATISTICS_FILE = "adapter_norm_stats.pt"
AMO_FILES = (POLICY_FILE, ADAPTER_FILE, STATISTICS_FILE)

OBSERVATION_SIZE = 1043
HISTORY_SIZE = 2325
ACTION_SIZE = 15
ADAPTER_INPUTS = 12
ADAPTER_OUTPUTS = 15
_STATISTICS = {
    "input_mean": ADAPTER_INPUTS,
    "input_std": ADAPTER_INPUTS,
    "output_mean": ADAPTER_OUTPUTS,
    "output_std": ADAPTER_OUTPUTS,
}
_LEAST_STD = 1e-8
_POINTER = b"version https://git-lfs"


class AmoNetworks:
    """AMO's policy and adapter on the CPU, one thread each, so that equal inputs give equal bits."""

    def __init__(self, folder: Path) -> None:
        """Read the three files of a folder.

        Raises:
            Psi0Error: torch is not installed, or a file is missing, a Git LFS pointer, not TorchScript or not the
                adapter's statistics.
        """
        for name in AMO_FILES:
            _check_file(folder / name)
        try:
            import torch
        except ImportError:
            raise Psi0Error(
                "robot.system0 names AMO, which is TorchScript, and torch is not installed; `pip install psi0[train]`, "
                "or set robot.system0 to walking"
            ) from None
        self._torch = torch
        self._policy_path, self._adapter_path = folder / POLICY_FILE, folder / ADAPTER_FILE
        self._policy, self._adapter = _load_script(self._policy_path), _load_script(self._adapter_path)
        self._statistics = _load_statistics(folder / STATISTICS_FILE)

    def act(self, observation: NDArray[np.float64], history: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw actions `(15,)` for an observation `(1043,)` and the longer history `(2325,)`.

        Raises:
            Psi0Error: the network does not take these, or answers with another shape, or with what is not finite
                though its inputs are.
        """
        return self._run(self._policy, self._policy_path, ACTION_SIZE, observation, history)

    def adapt(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reference pose `(15,)` [rad] for height [m], torso yaw, pitch, roll, and eight arm joints [rad] `(12,)`.

        Raises:
            Psi0Error: as `act` does, of the adapter.
        """
        known = self._statistics
        standard = (values - known["input_mean"]) / (known["input_std"] + _LEAST_STD)
        answer = self._run(self._adapter, self._adapter_path, ADAPTER_OUTPUTS, standard)
        return answer * known["output_std"] + known["output_mean"]

    def _run(self, network: Any, path: Path, size: int, *inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        torch = self._torch
        tensors = [torch.from_numpy(values.astype(np.float32)[None]) for values in inputs]
        try:
            # Unoptimised: the profiling executor may compute the first runs of a network otherwise than the later.
            with torch.no_grad(), torch.jit.optimized_execution(False), _one_thread(torch):
                answer = network(*tensors)
        except Exception as error:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise Psi0Error(f"{path} cannot be run on inputs {shapes}: {_reason(error)}; it is not AMO's") from None
        shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        if shape != (1, size):
            raise Psi0Error(f"{path} answers with {shape}, expected {(1, size)}; it is not AMO's")
        values: NDArray[np.float64] = answer[0].numpy().astype(np.float64)
        if not np.isfinite(values).all() and all(np.isfinite(given).all() for given in inputs):
            raise Psi0Error(f"{path} answers with NaN or infinity; its weights are broken, take another copy")
        return values


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise Psi0Error(f"{path} is missing; AMO is {', '.join(AMO_FILES)} in one folder (robot.system0)")
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise Psi0Error(f"{path} is a Git LFS pointer, not the file; fetch it with `git lfs pull`")


def _load_script(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(str(path), map_location="cpu").eval()
        _move_constants(network)
    except Exception as error:
        raise Psi0Error(f"{path} is not TorchScript as `torch.jit.save` writes it: {_reason(error)}") from None
    return network


def _move_constants(network: "torch.jit.ScriptModule") -> None:
    """Put devices that are written into the program onto the CPU: the published AMO makes zeros on `cuda:0`."""
    import torch

    graph = network._c._get_method("forward").graph
    torch._C._jit_pass_inline(graph)
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type().kind() == "DeviceObjType":
            node.s_("value", "cpu")


def _load_statistics(path: Path) -> Mapping[str, NDArray[np.float64]]:
    """Means and standard deviations, saved as tensors, arrays or lists of numbers; nothing else is unpickled."""
    import torch
    from numpy._core.multiarray import _reconstruct

    # What arrays are pickled with, by the names that NumPy 1 and 2 give it.
    arrays: list[Any] = [(_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    arrays += [np.ndarray, np.dtype, *(type(np.dtype(name)) for name in ("float32", "float64"))]
    try:
        with torch.serialization.safe_globals(arrays):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Psi0Error(f"{path} cannot be read as tensors and arrays: {_reason(error)}; it is not AMO's") from None
    if not isinstance(content, dict):
        raise Psi0Error(f"{path} holds {type(content).__name__}, expected a dictionary; it is not AMO's")
    found = {}
    for name, size in _STATISTICS.items():
        if name not in content:
            raise Psi0Error(f"{path} has no {name}; AMO's statistics are {', '.join(_STATISTICS)}")
        try:
            values = np.asarray(content[name], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            raise Psi0Error(f"{path}: {name} is not a row of numbers") from None
        if values.shape != (size,) or not np.isfinite(values).all():
            raise Psi0Error(f"{path}: {name} has {values.size} numbers, expected {size}, all finite; it is not AMO's")
        found[name] = values
    return found


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reason(error: Exception) -> str:
    """The line of a traceback out of TorchScript that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    raised = [line for line in lines if "Error: " in line]
    return raised[-1] if raised else lines[0]
