"""torch.compile, block by block: one graph per kind of transformer block instead of one per network."""

import torch
from torch import nn


def compile_blocks(objective: nn.Module, device: torch.device, backend: str | None = None) -> str:
    """Compile every block of the objective's networks where a GPU computes, in place; returns what was done, in words.

    Names and parameters stay. The numbers are not those of the same run without it, bit for bit.

    Args:
        objective: what is trained.
        device: where.
        backend: of torch.compile, on any device; None: its own, on GPUs alone, since on a CPU it needs a C++ compiler
            and minutes for nothing gained at the sizes that a CPU can train.
    """
    if device.type != "cuda" and backend is None:
        return "compile: auto compiles nothing on CPUs"
    blocks = [block for stack in objective.modules() if isinstance(stack, nn.ModuleList) for block in stack]
    for block in blocks:
        block.compile(backend=backend or "inductor")
    return f"compile: {len(blocks)} blocks are compiled in the first steps"
