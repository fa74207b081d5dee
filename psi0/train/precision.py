"""Which arithmetic a training run uses where `precision` is `auto`: decided once per run, by all ranks together."""

import torch

from psi0.params import Training
from psi0.train.team import Team

FLOAT32, BFLOAT16, BFLOAT16_LINEAR = "float32", "bfloat16", "bfloat16_linear"
_ALL = (FLOAT32, BFLOAT16, BFLOAT16_LINEAR)


def resolve_precision(training: Training, team: Team) -> str:
    """`float32`, `bfloat16` or `bfloat16_linear`: what `auto` means here, any other value as it is. Collective.

    A GPU computes in bfloat16 under autocast. A processor with bfloat16 products (AVX512-BF16, AMX) takes them in
    linear layers and convolutions, where they are several times faster than fp32; one without emulates them ten times
    slower than fp32 (`benchmarks/precision.py`), and computes in fp32. Ranks on unlike machines all compute in fp32.
    """
    if training.precision != "auto":
        return training.precision
    own = _best(team.device)
    votes = team.total(torch.tensor([float(one == own) for one in _ALL], device=team.device))
    return own if votes[_ALL.index(own)] == team.ranks else FLOAT32


def _best(device: torch.device) -> str:
    if device.type == "cuda":
        return BFLOAT16
    capabilities = torch.cpu.get_capabilities()
    return BFLOAT16_LINEAR if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else FLOAT32
