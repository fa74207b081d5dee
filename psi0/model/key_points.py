"""Where the object is, read from System-2's hidden states: an auxiliary target, and one more token for System-1."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from psi0.model.config import KEY_POINT_NUMBERS

_PER_TOKEN, _INNER = 16, 128
_LOOK = 32


class KeyPointHead(nn.Module):
    """Predicts standardised key points from the image tokens' states and the last text token's state.

    Each key point looks at the image: the last text token's state asks (image tokens come before the text and do not
    know the instruction under causal attention), image tokens answer, and what they say about the point, given where
    in the image they stand, is averaged by how well they answer. One network for all places learns where a thing is
    from far fewer images than a dense layer over all tokens; such a layer stays beside it for points out of sight.
    The embedding of the prediction is appended to the hidden states, so that nothing goes around System-2.
    """

    places: Tensor

    def __init__(self, hidden_size: int, grid: tuple[int, int], key_points: int) -> None:
        """`grid`: rows and columns of image tokens."""
        super().__init__()
        self.key_points, numbers = key_points, key_points * KEY_POINT_NUMBERS
        self.ask = nn.Linear(hidden_size, key_points * _LOOK)
        self.answer = nn.Linear(hidden_size, _LOOK, bias=False)
        self.say_inner = nn.Linear(hidden_size + 2, _INNER)
        self.say = nn.Linear(_INNER, numbers)
        self.shift = nn.Linear(2, numbers, bias=False)
        self.squeeze = nn.Linear(hidden_size, _PER_TOKEN)
        self.inner = nn.Linear(_PER_TOKEN * grid[0] * grid[1] + hidden_size, _INNER)
        self.out = nn.Linear(_INNER, numbers)
        self.embed = nn.Linear(numbers, hidden_size)
        rows, columns = (torch.linspace(-1 + 1 / count, 1 - 1 / count, count) for count in grid)
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
        self.register_buffer("places", places, persistent=False)

    def forward(self, image_states: Tensor, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict and embed.

        Args:
            image_states: `(batch, image_tokens, hidden)`, row by row.
            hidden: all hidden states `(batch, n, hidden)`.
            mask: bool `(batch, n)`, right padding False.

        Returns:
            key points `(batch, key_points * 5)`, standardised; their token `(batch, 1, hidden)`.
        """
        following = functional.pad(mask[:, 1:], (0, 1))
        is_last = (mask & ~following).to(hidden.dtype)
        last = torch.einsum("bn,bnd->bd", is_last, hidden)
        squeezed = functional.relu(self.squeeze(image_states)).flatten(1)
        dense = self.out(functional.relu(self.inner(torch.cat([squeezed, last], dim=1))))
        points = dense + self._looked_up(image_states, last)
        return points, self.embed(points)[:, None]

    def _looked_up(self, image_states: Tensor, last: Tensor) -> Tensor:
        """What image tokens say about each key point `(batch, key_points * 5)`, averaged by attention."""
        count, tokens = self.key_points, image_states.shape[1]
        queries = self.ask(last).view(-1, count, _LOOK)
        fits = torch.einsum("bkc,bnc->bkn", queries, self.answer(image_states)) * _LOOK**-0.5
        places = self.places.to(image_states.dtype).expand(image_states.shape[0], -1, -1)
        inner = functional.relu(self.say_inner(torch.cat([image_states, places], dim=-1)))
        said = (self.say(inner) + self.shift(places)).view(-1, tokens, count, KEY_POINT_NUMBERS)
        return torch.einsum("bkn,bnkf->bkf", functional.softmax(fits, dim=-1), said).flatten(1)
