"""System-2: Qwen3-VL reads the head camera and the instruction, and hands its last hidden states to System-1.

The modules and weights are those of transformers' `Qwen3VLForConditionalGeneration`; they are walked here with static
shapes (one image at a fixed place in the prompt), so that training, evaluation and the exported graphs compute the
same thing in the same order. Which hidden state is handed on, before or after the final norm, is decided in
`System2.language` alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLConfig
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from psi0 import params
from psi0.errors import Psi0Error
from psi0.model import qwen, text
from psi0.model.config import System2Config, read_config, write_config
from psi0.model.image import TEMPORAL_PATCH, model_size, resize_matrix
from psi0.model.key_points import KeyPointHead
from psi0.model.prompt import IGNORED, Prompt
from psi0.model.rope import rope_index
from psi0.model.system1 import load_weights

WEIGHTS, CONFIG = "system2.safetensors", "system2.json"


@dataclass(frozen=True)
class System2Output:
    """What System-1 sees of an observation.

    Attributes:
        hidden: `(batch, n, hidden)`: last hidden states of all prompt tokens, then the key-point token if there is one.
        mask: bool `(batch, n)`, False on padding.
        key_points: predicted, standardised `(batch, key_points * 5)`, or None.
    """

    hidden: Tensor
    mask: Tensor
    key_points: Tensor | None


@dataclass(frozen=True)
class NextTokenLoss:
    """Stage 1's loss on a batch.

    Attributes:
        loss: scalar, mean cross entropy per answer token [nats].
        per_sample: `(batch,)`, the same per sample (detached).
        predicted: most likely token at each answer position, int64 `(answer tokens,)`, in batch order.
        target: the true ones, same shape.
    """

    loss: Tensor
    per_sample: Tensor
    predicted: Tensor
    target: Tensor


class System2(nn.Module):
    """Qwen3-VL plus, at tiny scale, a convolutional stem and a key-point head."""

    vision_index: Tensor
    vision_weight: Tensor
    vision_cosine: Tensor
    vision_sine: Tensor

    def __init__(self, config: System2Config, model: Any) -> None:
        """Wrap a model made by `psi0.model.qwen`; use `create` or `load` instead."""
        super().__init__()
        self.config = config
        self.qwen = model
        self.key_point_head: KeyPointHead | None = None
        if config.key_points:
            self.key_point_head = KeyPointHead(config.hidden_size, config.grid, config.key_points)
        self._add_constants()

    @classmethod
    def create(
        cls,
        sizes: params.System2,
        *,
        camera: tuple[int, int],
        tokenizer: Tokenizer,
        action_tokens: int,
        key_points: int,
        seed: int,
    ) -> "System2":
        """A System-2 before stage 1.

        Args:
            sizes: block `system2` of `params.yaml`.
            camera: height and width of the recorded images [pixels].
            tokenizer: text tokenizer that holds the action tokens (`text.add_action_tokens`).
            action_tokens: size of the FAST vocabulary.
            key_points: key points in the datasets; ignored unless `system2.key_points` is set.
            seed: of random weights.

        Raises:
            Psi0Error: sizes that do not fit, or a `source` that cannot be loaded.
        """
        first = tokenizer.token_to_id("<|a_0|>")
        if first is None:
            raise Psi0Error("the text tokenizer holds no action tokens; run the tokenizer stage")
        rows = qwen.padded_vocabulary(tokenizer.get_vocab_size(with_added_tokens=True))
        if sizes.source == params.FROM_SIZES:
            height, width = model_size(*camera, sizes.patch_size, sizes.merge)
            grid = (height // sizes.patch_size, width // sizes.patch_size)
            model = qwen.build(
                qwen.tiny_config(sizes, rows, grid, text.control_ids(tokenizer)),
                stem=sizes.convolutional_stem,
                grid=grid,
                seed=seed,
            )
        else:
            model = qwen.load_pretrained(sizes.source, download=sizes.download, revision=sizes.revision, rows=rows)
            vision = model.config.vision_config
            height, width = model_size(*camera, vision.patch_size, vision.spatial_merge_size)
            grid = (height // vision.patch_size, width // vision.patch_size)
            model = qwen.adapt(model, stem=sizes.convolutional_stem, grid=grid)
        vision = model.config.vision_config
        config = System2Config(
            schema_version=1,
            qwen=json.loads(model.config.to_json_string(use_diff=False)),
            image_height=height,
            image_width=width,
            patch_size=vision.patch_size,
            merge=vision.spatial_merge_size,
            image_start=Prompt(tokenizer, 1, sizes.max_text_tokens).image_start,
            max_text_tokens=sizes.max_text_tokens,
            hidden_size=model.config.text_config.hidden_size,
            hidden_state=sizes.hidden_state,
            convolutional_stem=sizes.convolutional_stem,
            key_points=key_points if sizes.key_points else 0,
            first_action_id=first,
            action_tokens=action_tokens,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, model)

    def make_prompt(self, tokenizer: Tokenizer) -> Prompt:
        """The prompt builder that fits this System-2."""
        return Prompt(tokenizer, self.config.image_tokens, self.config.max_text_tokens)

    def encode(self, images: Tensor, text_ids: Tensor, text_mask: Tensor) -> System2Output:
        """Hidden states of prompts.

        Args:
            images: uint8 `(batch, height, width, 3)`, of any size; resized to the model's.
            text_ids: int64 `(batch, length)`, from `Prompt.batch`.
            text_mask: bool `(batch, length)`.
        """
        return self.with_key_points(self.hidden(images, text_ids), text_mask)

    def hidden(self, images: Tensor, text_ids: Tensor) -> Tensor:
        """Last hidden states `(batch, length, hidden)` of prompts, without the key-point token; see `encode`."""
        image_tokens, deepstack = self.vision(self.patches(images))
        return self.language(text_ids, image_tokens, deepstack)

    def next_token_loss(self, images: Tensor, text_ids: Tensor, text_mask: Tensor, labels: Tensor) -> NextTokenLoss:
        """Cross entropy of the assistant's turn (`Prompt.answered`); `labels` is `IGNORED` elsewhere.

        The padding stands on the right, where causal attention keeps it from everything that is scored.
        """
        image_tokens, deepstack = self.vision(self.patches(images))
        hidden = self.language(text_ids, image_tokens, deepstack, state="post_norm")
        scored = (labels[:, 1:] != IGNORED) & text_mask[:, 1:]
        target = labels[:, 1:][scored]
        logits = self.qwen.lm_head(hidden[:, :-1][scored]).float()
        entropy = functional.cross_entropy(logits, target, reduction="none")
        sample = torch.nonzero(scored)[:, 0]
        sums = torch.zeros(len(labels), device=labels.device).index_add(0, sample, entropy.detach())
        per_sample = sums / scored.sum(dim=1).clamp(min=1)
        return NextTokenLoss(entropy.mean(), per_sample, logits.detach().argmax(dim=-1), target)

    def patches(self, images: Tensor) -> Tensor:
        """Flattened patches `(batch * patches, numbers)` of uint8 images: `psi0.model.image.patches` in torch."""
        config = self.config
        height, width, size, merge = config.image_height, config.image_width, config.patch_size, config.merge
        scaled = images.float()
        if images.shape[1:3] != (height, width):
            rows = torch.from_numpy(resize_matrix(images.shape[1], height)).to(images.device)
            columns = torch.from_numpy(resize_matrix(images.shape[2], width)).to(images.device)
            resized = torch.einsum("xw,bywc->byxc", columns, torch.einsum("yh,bhwc->bywc", rows, scaled))
            scaled = resized.round().clamp(0, 255)
        scaled = scaled / 127.5 - 1.0
        cut = scaled.view(-1, config.grid[0], merge, size, config.grid[1], merge, size, 3)
        ordered = cut.permute(0, 1, 4, 2, 5, 7, 3, 6).unsqueeze(6)
        doubled = ordered.expand(*ordered.shape[:6], TEMPORAL_PATCH, size, size)
        return doubled.reshape(-1, 3 * TEMPORAL_PATCH * size * size)

    def vision(self, patches: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image tokens `(batch, image_tokens, hidden)` and one like it per deepstack layer."""
        visual = self.qwen.model.visual
        positions = (visual.pos_embed(self.vision_index) * self.vision_weight[..., None]).sum(dim=1)
        embedded = visual.patch_embed(patches)
        states = embedded.view(-1, *positions.shape) + positions.to(embedded.dtype)
        rotation = (self.vision_cosine.to(states.dtype), self.vision_sine.to(states.dtype))
        taps = list(visual.deepstack_visual_indexes)
        deepstack = []
        for index, block in enumerate(visual.blocks):
            states = block(states, cu_seqlens=None, position_embeddings=rotation)
            if index in taps:
                deepstack.append(self._merge(visual.deepstack_merger_list[taps.index(index)], states))
        return self._merge(visual.merger, states), deepstack

    def rotation(self, length: int) -> tuple[Tensor, Tensor]:
        """Rotary cosine and sine `(1, length, head)` of a prompt's positions."""
        positions = torch.from_numpy(rope_index(length, self.config.image_start, *self.config.grid))
        model = self.qwen.model.language_model
        weight = model.embed_tokens.weight
        return model.rotary_emb(weight[:1], positions[:, None].to(weight.device))

    def language(
        self,
        text_ids: Tensor,
        image_tokens: Tensor,
        deepstack: list[Tensor],
        *,
        state: str | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Last hidden states `(batch, length, hidden)` of prompts; image tokens take their fixed place.

        `state` is `pre_norm` or `post_norm`; None takes the configured one. transformers 4.57 called the former
        `hidden_states[-1]`, 5.x the latter. `rotation` is `self.rotation(length)`, if at hand.
        """
        model, start = self.qwen.model.language_model, self.config.image_start
        length, end = text_ids.shape[1], start + self.config.image_tokens
        embedded = model.embed_tokens(text_ids)
        tokens = torch.cat([embedded[:, :start], image_tokens.to(embedded.dtype), embedded[:, end:]], dim=1)
        rotation = rotation or self.rotation(length)
        for index, layer in enumerate(model.layers):
            tokens = layer(tokens, position_embeddings=rotation, attention_mask=None, use_cache=False)
            if index < len(deepstack):
                tokens = tokens + functional.pad(deepstack[index].to(tokens.dtype), (0, 0, start, length - end))
        return model.norm(tokens) if (state or self.config.hidden_state) == "post_norm" else tokens

    def with_key_points(self, hidden: Tensor, text_mask: Tensor) -> System2Output:
        """Append the key-point token, if this System-2 has a head for it."""
        if self.key_point_head is None:
            return System2Output(hidden, text_mask, None)
        start = self.config.image_start
        image_states = hidden[:, start : start + self.config.image_tokens]
        points, token = self.key_point_head(image_states, hidden, text_mask)
        seen = torch.ones_like(text_mask[:, :1])
        return System2Output(torch.cat([hidden, token], dim=1), torch.cat([text_mask, seen], dim=1), points)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part: `vision` (tower and merger), `language`, `key_points` (possibly empty)."""
        vision = list(self.qwen.model.visual.parameters())
        known = {id(parameter) for parameter in vision}
        return {
            "vision": vision,
            "language": [parameter for parameter in self.qwen.parameters() if id(parameter) not in known],
            "key_points": [] if self.key_point_head is None else list(self.key_point_head.parameters()),
        }

    def set_key_points(self, key_points: int, seed: int) -> None:
        """Give this System-2 a fresh key-point head for a dataset with another number of points (0 removes it)."""
        self.config = self.config.model_copy(update={"key_points": key_points})
        self.key_point_head = None
        if key_points:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                head = KeyPointHead(self.config.hidden_size, self.config.grid, key_points)
            self.key_point_head = head.to(self.vision_weight.device)

    def use_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass to save memory."""
        self.qwen.activation_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write `system2.safetensors` and `system2.json` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(stored_state(self), folder / WEIGHTS)
        write_config(folder / CONFIG, self.config)

    @classmethod
    def load(cls, folder: Path) -> "System2":
        """Read what `save` wrote. Raises `Psi0Error` when a file is missing or weights and sizes do not fit."""
        config = read_config(folder / CONFIG, System2Config)
        grid = (config.image_height // config.patch_size, config.image_width // config.patch_size)
        model = qwen.build(Qwen3VLConfig.from_dict(config.qwen), stem=config.convolutional_stem, grid=grid, seed=0)
        system2 = cls(config, model)
        load_weights(system2, folder / WEIGHTS, absent=tied_names(system2))
        return system2

    def _add_constants(self) -> None:
        """Interpolation of the position table and rotary angles, fixed by the one image size."""
        visual = self.qwen.model.visual
        grid = torch.tensor([[1, self.config.image_height, self.config.image_width]])
        grid[:, 1:] //= self.config.patch_size
        index, weight = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=self.config.merge,
        )
        cosine, sine = visual.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(grid, self.config.merge))
        constants = {"index": index, "weight": weight, "cosine": cosine, "sine": sine}
        for name, value in constants.items():
            self.register_buffer(f"vision_{name}", value, persistent=False)

    def _merge(self, merger: nn.Module, states: Tensor) -> Tensor:
        return merger(states.flatten(0, 1)).view(len(states), self.config.image_tokens, -1)


def tied_names(system2: System2) -> set[str]:
    """Names in the state dict that share another name's storage (the output layer, where it is tied)."""
    tied = system2.qwen.config.tie_word_embeddings
    return {"qwen.lm_head.weight"} if tied else set()


def stored_state(system2: System2) -> dict[str, Tensor]:
    """What `save` writes: every parameter once, contiguous."""
    skipped = tied_names(system2)
    return {name: value.contiguous() for name, value in system2.state_dict().items() if name not in skipped}
