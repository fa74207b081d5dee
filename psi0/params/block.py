"""What every block of `params.yaml` is: closed, frozen, and typed without conversion."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """A block of `params.yaml`: unknown keys are refused, and a value of another type is not converted.

    A whole number may stand where a float is asked for; text, booleans, infinities and NaN may not stand for a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
