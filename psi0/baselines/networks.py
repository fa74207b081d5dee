"""The network of a baseline by its kind, fresh from a seed or with weights."""

import torch
from torch import Tensor

from psi0.baselines.act import ActionChunkingTransformer
from psi0.baselines.cloning import BehaviourCloning
from psi0.baselines.config import CONFIG_FILE, TENSORS_FILE, BaselineConfig
from psi0.errors import Psi0Error

Network = ActionChunkingTransformer | BehaviourCloning


def make_network(config: BaselineConfig, seed: int = 0) -> Network:
    """A freshly initialised network of kind `act` or `bc`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ActionChunkingTransformer(config) if config.kind == "act" else BehaviourCloning(config)


def with_weights(config: BaselineConfig, weights: dict[str, Tensor]) -> Network:
    """The network with these weights, ready to act. Raises `Psi0Error` when they are not its own."""
    network = make_network(config)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise Psi0Error(f"{TENSORS_FILE} does not fit {CONFIG_FILE} ({reason}); rebuild the folder") from None
    return network.eval()
