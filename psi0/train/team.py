"""The processes that train together. Every method here is a collective: all ranks call it, in the same order."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from psi0.errors import Psi0Error


@dataclass(frozen=True)
class Team:
    """One process's place among the ranks.

    Attributes:
        rank: 0 writes files and reports.
        ranks: number of processes.
        device: where this rank computes.
    """

    rank: int
    ranks: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """True on the rank that writes and reports."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.ranks > 1:
            dist.barrier()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over all ranks."""
        if self.ranks > 1:
            dist.all_reduce(values)
        return values

    def agree(self, answer: bool) -> bool:
        """What rank 0 says, on all ranks."""
        said = torch.tensor(float(answer and self.leads), device=self.device)
        return bool(self.total(said).item())

    def raise_together(self, problem: str | None) -> None:
        """Raise `Psi0Error` on every rank when one has a problem, so that nobody waits for a rank that left.

        Asked at every step: texts travel only when there is one, else a single number.
        """
        problems = [problem]
        if self.ranks > 1:
            if not self.total(torch.tensor(float(problem is not None), device=self.device)).item():
                return
            problems = [None] * self.ranks
            dist.all_gather_object(problems, problem)
        found = [text for text in problems if text]
        if found:
            raise Psi0Error(found[0])
