"""From physical units to the range the networks see, and back. NumPy only: training and the robot share it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psi0.errors import Psi0Error

SCHEMA_VERSION = 1
STATE_CLIP = 1.5
"""A measured state may leave the demonstrated range by this factor before it is clipped."""
ACTION_CLIP = 1.1
"""A generated action may leave the demonstrated range by a tenth; further out the policy knows nothing."""

Method = Literal["min_max", "quantile", "identity"]


@dataclass(frozen=True)
class Scale:
    """An affine map per dimension: `(value - center) / half_range`, clipped to `[-clip, clip]`.

    Attributes:
        center: float64 `(dims,)`, in the unit of each dimension.
        half_range: float64 `(dims,)`, positive.
        clip: largest absolute normalised value, both ways.
        method: where the range came from.
    """

    center: NDArray[np.float64]
    half_range: NDArray[np.float64]
    clip: float
    method: Method

    @classmethod
    def fit(
        cls,
        low: ArrayLike,
        high: ArrayLike,
        *,
        minimum_half_range: float = 0.0,
        clip: float = 1.0,
        method: Method = "min_max",
    ) -> "Scale":
        """Build a scale from bounds `(dims,)` (min and max, or 1st and 99th percentile).

        A dimension narrower than `minimum_half_range` is widened to it, so that a joint that hardly moved does not
        have its noise blown up to full range. A dimension of zero range keeps its unit: only its center is taken off.

        Raises:
            Psi0Error: bounds of different shapes, not finite, or crossed.
        """
        lower, upper = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if lower.shape != upper.shape or lower.ndim != 1:
            raise Psi0Error(f"bounds of shapes {lower.shape} and {upper.shape}: two equal vectors are needed")
        if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower <= upper).all()):
            wrong = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper) & (lower <= upper))).tolist()
            raise Psi0Error(f"bounds of dimensions {wrong} are not finite or crossed; check the dataset's stats.json")
        half = np.maximum((upper - lower) / 2, minimum_half_range)
        return cls((lower + upper) / 2, np.where(half > 0, half, 1.0), clip, method)

    @classmethod
    def identity(cls, dims: int) -> "Scale":
        """A scale that changes nothing and clips nothing, for states that the recipe leaves unnormalised."""
        return cls(np.zeros(dims), np.ones(dims), float("inf"), "identity")

    @property
    def low(self) -> NDArray[np.float32]:
        """Smallest value `(dims,)` that `denormalize` returns."""
        return (self.center - self.half_range * self.clip).astype(np.float32)

    @property
    def high(self) -> NDArray[np.float32]:
        """Largest value `(dims,)` that `denormalize` returns."""
        return (self.center + self.half_range * self.clip).astype(np.float32)

    def normalize(self, values: ArrayLike) -> NDArray[np.float32]:
        """Map `(..., dims)` from physical units to the normalised range."""
        scaled = (np.asarray(values, np.float64) - self.center) / self.half_range
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def denormalize(self, values: ArrayLike) -> NDArray[np.float32]:
        """Map `(..., dims)` back to physical units, clipped to the range first."""
        clipped = np.clip(np.asarray(values, np.float64), -self.clip, self.clip)
        return (clipped * self.half_range + self.center).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """This scale as plain JSON values."""
        return {
            "center": self.center.tolist(),
            "half_range": self.half_range.tolist(),
            "clip": None if np.isinf(self.clip) else self.clip,
            "method": self.method,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str) -> "Scale":
        """Read a scale. Raises `Psi0Error` naming `source` when a field is missing or does not fit."""
        try:
            center = np.asarray(content["center"], np.float64)
            half_range = np.asarray(content["half_range"], np.float64)
            clip = float("inf") if content["clip"] is None else float(content["clip"])
            method: Method = content["method"]
        except (KeyError, TypeError, ValueError) as error:
            raise Psi0Error(f"{source}: not a scale ({error!r}); restore or rebuild the file") from None
        if center.shape != half_range.shape or not (half_range > 0).all():
            raise Psi0Error(f"{source}: center and half_range do not fit; restore or rebuild the file")
        return cls(center, half_range, clip, method)


@dataclass(frozen=True)
class Normalizer:
    """The scales of one policy.

    Attributes:
        state: over the 32 state numbers.
        action: over the 36 action numbers.
        key_points: over the `K * 5` key-point numbers (center = mean, half range = standard deviation), or None.
    """

    state: Scale
    action: Scale
    key_points: Scale | None = None

    def to_json(self) -> dict[str, Any]:
        """This normaliser as plain JSON values (the content of `normalizer.json`)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "state": self.state.to_json(),
            "action": self.action.to_json(),
            "key_points": self.key_points.to_json() if self.key_points else None,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "normalizer.json") -> "Normalizer":
        """Read `normalizer.json`. Raises `Psi0Error` for another schema version or a broken field."""
        if content.get("schema_version") != SCHEMA_VERSION:
            raise Psi0Error(
                f"{source}: schema_version {content.get('schema_version')!r}, this code reads {SCHEMA_VERSION};"
                " use the psi0 version that wrote it"
            )
        points = content.get("key_points")
        return cls(
            Scale.from_json(content.get("state", {}), f"{source}: state"),
            Scale.from_json(content.get("action", {}), f"{source}: action"),
            Scale.from_json(points, f"{source}: key_points") if points else None,
        )
