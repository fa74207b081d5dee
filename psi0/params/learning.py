"""Blocks of the tokenizer, the two networks and the three training stages."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from psi0.params.block import Block, Natural, Positive, Share

FROM_SIZES = "config"
"""The `source` of a System-2 that is built from the sizes in its block."""


class Tokenizer(Block):
    """FAST action tokens and the text tokenizer."""

    vocabulary: Positive = Field(512, description="Size of the FAST vocabulary")
    scale: Positive = Field(100, description="Quantisation steps per unit of a normalised action")
    samples: Positive = Field(20000, description="Action vectors the tokenizer is fitted on")
    text: str = Field("bytes", description="`bytes` (built in), or a folder with Qwen's tokenizer.json")
    frame_gap: Positive = Field(
        3, description="Frames between the two poses of a stage-1 action (3 at 30 Hz: 10 Hz deltas)"
    )
    seed: Natural = Field(0, description="Seed of the sample that the tokenizer is fitted on")

    @model_validator(mode="after")
    def _every_level_has_a_token(self) -> "Tokenizer":
        levels = 2 * self.scale + 1
        if self.vocabulary < levels:
            raise ValueError(
                f"vocabulary {self.vocabulary} is smaller than the {levels} quantisation levels of scale {self.scale};"
                " raise the one or lower the other"
            )
        return self


class System2(Block):
    """The vision-language backbone."""

    source: str = Field(
        FROM_SIZES, description="`config` (random weights of the sizes below), a local folder, or a hub id"
    )
    download: bool = Field(False, description="Allow fetching `source` from the hub")
    revision: str = Field("main", description="Commit, tag or branch of a hub id; a commit fixes the bytes")
    hidden_size: Positive = Field(128, description="Width of the language model")
    text_layers: Positive = Field(1, description="Layers of the language model")
    vision_layers: Positive = Field(1, description="Layers of the vision tower")
    heads: Positive = Field(4, description="Attention heads of both towers")
    key_value_heads: Positive = Field(2, description="Key and value heads of the language model")
    patch_size: Positive = Field(16, description="Patch edge [pixels]")
    merge: Positive = Field(1, description="Patches merged along each axis into one image token")
    max_text_tokens: Positive = Field(32, description="Longest instruction, prompt frame included [tokens]")
    hidden_state: Literal["pre_norm", "post_norm"] = Field(
        "post_norm",
        description="Which last hidden state feeds System-1; it changed silently between transformers versions",
    )
    convolutional_stem: bool = Field(True, description="Tiny scale: a convolutional stem inside the vision tower")
    key_points: bool = Field(
        True, description="Tiny scale: predict where the object is, from hidden states, as one more token"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "System2":
        if self.source != FROM_SIZES:
            return self
        if self.hidden_size % self.heads or self.hidden_size // self.heads % 4 or self.heads % self.key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size}, heads {self.heads}, key_value_heads {self.key_value_heads} do not"
                " fit: hidden_size must be heads times a multiple of 4, and heads a multiple of key_value_heads"
            )
        if self.convolutional_stem and self.patch_size not in (8, 16):
            raise ValueError(f"convolutional_stem needs a patch_size of 8 or 16, not {self.patch_size}")
        return self


class System1(Block):
    """The flow-matching action expert."""

    hidden_size: Positive = Field(128, description="Width of both streams")
    blocks: Positive = Field(2, description="Attention blocks")
    heads: Positive = Field(4, description="Attention heads")
    attention: Literal["joint", "cross"] = Field(
        "joint",
        description="`joint`: the published MM-DiT; `cross`: a plain DiT, self-attention, then cross-attention",
    )
    euler_steps: Positive = Field(4, description="Euler steps of the sampler")
    guidance: float = Field(
        0.0,
        ge=0,
        description="Test-time RTC in place of the clean prefix: largest guidance weight (5 as published); 0 is off",
    )
    token_dropout: Share = Field(0.0, description="Dropout on observation tokens (0.1 as published)")
    state_dropout: Share = Field(0.0, description="Dropout on the state (0.2 as published)")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "System1":
        if self.hidden_size % self.heads or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be even and a multiple of heads {self.heads}; change one of them"
            )
        return self


class Training(Block):
    """What the three training stages have in common."""

    steps: Natural = Field(500, description="Optimiser steps")
    batch: Positive = Field(24, description="Global batch: samples per optimiser step over all ranks")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`adamw`, as published, or `muon`: matrices take orthogonal steps, the rest goes by AdamW"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate")
    matrix_learning_rate: float = Field(6e-3, gt=0, description="Peak learning rate of matrices under Muon")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="Learning-rate schedule after warm-up")
    warmup_steps: Natural = Field(50, description="Linear warm-up [steps]")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay, on matrices only")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW first-moment decay")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW second-moment decay")
    clip_norm: float = Field(1.0, gt=0, description="Gradient clipping, global norm")
    accumulation: Positive = Field(1, description="Micro batches per optimiser step")
    ranks: Positive = Field(2, description="Training processes (GPUs, or CPU processes)")
    threads: Positive = Field(1, description="CPU threads per rank")
    zero_stage: Annotated[int, Field(ge=0, le=3)] = Field(1, description="DeepSpeed ZeRO stage")
    precision: Literal["auto", "float32", "bfloat16", "bfloat16_linear"] = Field(
        "auto",
        description="`auto`: bf16 matrix products, fp32 weights, where the hardware has such products; fp32 elsewhere",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations of the networks that learn, to save memory"
    )
    compile: Literal["auto", "off"] = Field(
        "off", description="`auto`: torch.compile of every transformer block where a GPU computes; CPUs compile nothing"
    )
    image_shift: Natural = Field(2, description="Random image shift [pixels]")
    color_jitter: Share = Field(
        0.0, description="Jitter of brightness, contrast, saturation, and a quarter of it of hue (0.2 as published)"
    )
    validation_share: Share = Field(0.1, description="Share of episodes held out for the loss that is reported")
    validation_every: Positive = Field(250, description="Steps between validations")
    checkpoint_every: Positive = Field(500, description="Steps between checkpoints")
    seed: Natural = Field(7, description="Seed of weights, sampling and noise")

    @field_validator("compile", mode="before")
    @classmethod
    def _off_is_what_yaml_takes_for_false(cls, value: object) -> object:
        return "off" if value is False else value

    @model_validator(mode="after")
    def _the_batch_can_be_dealt_out(self) -> "Training":
        if self.batch % (self.ranks * self.accumulation):
            raise ValueError(
                f"batch {self.batch} is not a multiple of ranks {self.ranks} times accumulation {self.accumulation};"
                " change one of them"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}; lower it")
        return self

    @model_validator(mode="after")
    def _matrices_are_whole_on_every_rank(self) -> "Training":
        if self.optimizer == "muon" and self.zero_stage:
            raise ValueError(
                f"optimizer muon needs whole matrices on every rank, zero_stage {self.zero_stage} divides them;"
                " set zero_stage to 0, or optimizer to adamw"
            )
        return self


class ChunkTraining(Training):
    """What the stages that train System-1 have in common."""

    cache_features: bool = Field(
        False,
        description="Compute a frozen System-2's answers once and keep them on disk (PSI0_FEATURE_CACHE_GIB at most)",
    )

    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of a moving average of the weights, which is what is published; 0 is off"
    )

    @model_validator(mode="after")
    def _the_average_is_whole_on_every_rank(self) -> "ChunkTraining":
        if self.ema and self.zero_stage == 3:
            raise ValueError("ema needs whole weights on every rank; set zero_stage to 0, 1 or 2, or ema to 0")
        return self

    @model_validator(mode="after")
    def _cached_features_stay_true(self) -> "ChunkTraining":
        if self.cache_features and (self.image_shift or self.color_jitter):
            raise ValueError(
                f"cache_features keeps one answer per image, image_shift {self.image_shift} and color_jitter"
                f" {self.color_jitter} change the image at every step; set both to 0, or cache_features to false"
            )
        if self.cache_features and self.zero_stage == 3:
            raise ValueError("cache_features needs whole weights on every rank; set zero_stage to 0, 1 or 2")
        return self


class Pretrain(Training):
    """Stage 1: the backbone learns next FAST tokens, on EgoDex, then on Humanoid Everyday."""

    steps: Natural = Field(400, description="Optimiser steps; 0 leaves the backbone as it begins")
    humanoid_everyday_steps: Natural = Field(100, description="The last steps, taken on Humanoid Everyday alone")
    vision_learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of the vision tower")
    lora_rank: Natural = Field(
        0, description="System-2 learns through low-rank updates (LoRA), token table and stem aside; 0: all its weights"
    )
    lora_alpha: float = Field(16.0, gt=0, description="Scale of the low-rank updates times their rank")

    @model_validator(mode="after")
    def _the_last_steps_are_some_of_all(self) -> "Pretrain":
        if self.humanoid_everyday_steps > self.steps:
            raise ValueError(
                f"humanoid_everyday_steps {self.humanoid_everyday_steps} exceeds steps {self.steps}; lower it"
            )
        return self


class Posttrain(ChunkTraining):
    """Stage 2: the action expert learns on Humanoid Everyday, the backbone frozen."""

    steps: Natural = Field(400, description="Optimiser steps; 0 leaves the expert random")
    zero_stage: Annotated[int, Field(ge=0, le=3)] = Field(0, description="DeepSpeed ZeRO stage")
    action: Literal["absolute", "delta"] = Field(
        "absolute", description="Meaning of the targets; the official code uses deltas here"
    )
    chunk: Positive = Field(
        16, description="Actions per chunk here; stage 3 keeps all but the inner blocks only if it is control.chunk"
    )
    cotrain: bool = Field(
        False,
        description="System-2 learns in this stage too, next tokens of EgoDex and Humanoid Everyday beside the actions,"
        " instead of being pre-trained and frozen",
    )
    next_token_loss: float = Field(1.0, ge=0, description="With cotrain: weight of the loss on next tokens")

    @model_validator(mode="after")
    def _only_a_frozen_system2_is_cached(self) -> "Posttrain":
        if self.cache_features and self.cotrain:
            raise ValueError("cache_features needs a frozen System-2; set cotrain or cache_features to false")
        return self


class Finetune(ChunkTraining):
    """Stage 3: the action expert learns one task from its demonstrations."""

    steps: Positive = Field(2500, description="Optimiser steps")
    batch: Positive = Field(32, description="Global batch: samples per optimiser step over all ranks")
    optimizer: Literal["adamw", "muon"] = Field(
        "muon", description="`adamw`, as published, or `muon`: matrices take orthogonal steps, the rest goes by AdamW"
    )
    zero_stage: Annotated[int, Field(ge=0, le=3)] = Field(0, description="DeepSpeed ZeRO stage")
    image_shift: Natural = Field(4, description="Random image shift [pixels]")
    color_jitter: Share = Field(
        0.1, description="Jitter of brightness, contrast, saturation, and a quarter of it of hue (0.2 as published)"
    )
    validation_share: Share = Field(0.05, description="Share of episodes held out for the loss that is reported")
    validation_every: Positive = Field(1000, description="Steps between validations")
    tune_system2: bool = Field(True, description="Tiny scale: System-2 learns too (frozen in the paper)")
    lora_rank: Natural = Field(
        0, description="With tune_system2: it learns through low-rank updates (LoRA) of this rank; 0: all its weights"
    )
    lora_alpha: float = Field(16.0, gt=0, description="Scale of the low-rank updates times their rank")
    key_point_loss: float = Field(2.0, ge=0, description="Tiny scale: weight of the loss on predicted key points")
    max_delay: Natural = Field(
        4, description="Training-time RTC: clean prefix of 0 to max_delay-1 steps; 0 turns it off"
    )
    foreign_velocity: Share = Field(
        0.5, description="Share of samples whose clean prefix walks as another sample does, so that what is seen counts"
    )
    state_noise: float = Field(0.02, ge=0, description="Noise on the normalised state")
    minimum_range: float = Field(
        0.02, ge=0, description="Smallest half range a dimension is normalised by [rad, m, ...]"
    )

    @model_validator(mode="after")
    def _a_frozen_system2_takes_no_updates(self) -> "Finetune":
        if self.lora_rank and not self.tune_system2:
            raise ValueError("lora_rank is how System-2 learns; set tune_system2 to true, or lora_rank to 0")
        return self

    @model_validator(mode="after")
    def _only_a_frozen_system2_is_cached(self) -> "Finetune":
        if self.cache_features and self.tune_system2:
            raise ValueError("cache_features needs a frozen System-2; set tune_system2 or cache_features to false")
        return self
