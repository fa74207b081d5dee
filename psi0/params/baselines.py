"""Block of the baselines: sizes and choices of what the recipe's policy is compared with."""

from pydantic import Field, model_validator

from psi0.params.block import Block, Natural, Positive, Share


class Baselines(Block):
    """Baselines on a task (`psi0 baseline`); steps, batch, rates and seed are those of `finetune`."""

    hidden_size: Positive = Field(128, description="Width of the transformers and of the image features")
    heads: Positive = Field(4, description="Attention heads")
    encoder_layers: Positive = Field(2, description="ACT: layers of the encoder, and of the CVAE's encoder")
    decoder_layers: Positive = Field(2, description="ACT: layers of the decoder")
    feed_forward: Positive = Field(512, description="ACT: inner width of the feed-forward networks")
    latent_size: Positive = Field(32, description="ACT: numbers of the latent style")
    kl_weight: float = Field(10.0, ge=0, description="ACT: weight of the KL divergence beside the L1 loss")
    dropout: Share = Field(0.1, description="ACT: dropout in the transformers")
    temporal_ensemble: bool = Field(
        False, description="ACT: average what all chunks say of a step; on a chunk every control.execute steps"
    )
    ensemble_decay: float = Field(
        0.01, ge=0, description="ACT: weight exp(-decay * i) of the i-th oldest chunk in that average"
    )
    match_rows: Natural = Field(
        12, description="Nearest demonstration: height of the pictures compared [pixels]; 0 compares the state alone"
    )
    match_state_weight: float = Field(
        10.0, ge=0, description="Nearest demonstration: weight of the state's distance beside the picture's"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Baselines":
        if self.hidden_size % self.heads or self.hidden_size % 4:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of 4 and of heads {self.heads}; change one of them"
            )
        if not self.match_rows and not self.match_state_weight:
            raise ValueError("match_rows and match_state_weight are both 0, so nothing is compared; raise one of them")
        return self
