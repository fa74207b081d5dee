"""Sizes of the two networks, as stored beside their weights. No torch: exported graphs carry the same file."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psi0.errors import Psi0Error
from psi0.files import read_json, write_json

SCHEMA_VERSION = 1
KEY_POINT_NUMBERS = 5
"""x, y, z [m] in the pelvis heading frame, u, v in the image."""


class ModelConfig(BaseModel):
    """A configuration file with a schema version; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(default=1, description="Version of this file's layout")


ConfigType = TypeVar("ConfigType", bound=ModelConfig)


class System2Config(ModelConfig):
    """The vision-language backbone."""

    qwen: dict[str, Any] = Field(description="transformers' Qwen3VLConfig as a dictionary")
    image_height: int = Field(description="Height of the images it takes, resized [pixels]")
    image_width: int = Field(description="Width of the images it takes, resized [pixels]")
    patch_size: int = Field(description="Patch edge [pixels]")
    merge: int = Field(description="Patches merged along each axis into one image token")
    image_start: int = Field(description="Index of the first image token in a prompt")
    max_text_tokens: int = Field(description="Longest prompt without its image tokens [tokens]")
    hidden_size: int = Field(description="Width of the hidden states that System-1 sees")
    hidden_state: Literal["pre_norm", "post_norm"] = Field(description="Which last hidden state that is")
    convolutional_stem: bool = Field(description="A convolutional stem in place of the patch projection")
    key_points: int = Field(ge=0, description="Key points predicted from hidden states; 0: no head, no extra token")
    first_action_id: int = Field(description="Token id of FAST token 0")
    action_tokens: int = Field(description="Size of the FAST vocabulary")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        unit = self.patch_size * self.merge
        return self.image_height // unit, self.image_width // unit

    @property
    def image_tokens(self) -> int:
        """Tokens of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def context_tokens(self) -> int:
        """Hidden states that System-1 sees for a prompt of static length (the key-point token included)."""
        return self.image_tokens + self.max_text_tokens + (self.key_points > 0)


class System1Config(ModelConfig):
    """The flow-matching action expert."""

    action_size: int = Field(default=36, description="Numbers per action")
    state_size: int = Field(default=36, description="Numbers of the state token; shorter states are padded with zeros")
    horizon: int = Field(description="Actions per chunk")
    context_size: int = Field(description="Width of System-2's hidden states")
    hidden_size: int = Field(default=1536, description="Width of both streams")
    blocks: int = Field(default=6, description="Attention blocks")
    heads: int = Field(default=24, description="Attention heads")
    attention: Literal["joint", "cross"] = Field(
        default="joint",
        exclude_if=lambda value: value == "joint",
        description="Joint attention of two streams (left out of the file), or a plain DiT's self- and cross-attention",
    )
    state_dropout: float = Field(default=0.2, description="Dropout on the state")
    token_dropout: float = Field(default=0.1, description="Dropout on observation tokens")


def write_config(path: Path, config: ModelConfig) -> None:
    """Store a configuration as JSON."""
    write_json(path, config.model_dump(mode="json"))


def read_config(path: Path, kind: type[ConfigType]) -> ConfigType:
    """Read a configuration. Raises `Psi0Error` for another schema version or a field that does not fit."""
    return parse_config(read_json(path), kind, str(path))


def parse_config(content: Any, kind: type[ConfigType], source: str) -> ConfigType:
    """Validate a configuration. Raises `Psi0Error` for another schema version or a field that does not fit."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise Psi0Error(
            f"{source}: schema_version {version!r}, this code reads {SCHEMA_VERSION}; use the psi0 that wrote it"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise Psi0Error(f"{source}: {problems}; restore or rebuild the file") from None
