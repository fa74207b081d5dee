"""The exported policy, played by ONNX Runtime: NumPy, onnxruntime and tokenizers, nothing else.

This is what the gate judges and what a robot or a workstation runs. The order of work in `act`: image to patches,
prompt to tokens, the two System-2 graphs and `s1_observe` once, then the Euler loop over `s1_step`, or over `s1_guided`
where the policy is run with guidance.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from psi0.errors import Psi0Error
from psi0.export.interface import GRAPHS, GUIDED, INPUTS, OUTPUTS
from psi0.files import read_json
from psi0.model import euler, guidance, image, text
from psi0.model.config import System2Config, read_config
from psi0.model.manifest import check_manifest
from psi0.model.normalizer import Normalizer
from psi0.model.policy_config import CONFIG_FILE, LAYOUT_FILE, NORMALIZER_FILE, Layout, PolicyConfig
from psi0.model.prefix import clean_prefix
from psi0.model.prompt import Prompt
from psi0.policy import Observation

SYSTEM2_FILE = "system2.json"
Arrays = dict[str, NDArray[np.generic]]


class GraphPolicy:
    """A graph folder as a policy.

    Attributes:
        config: control rates, horizon, sampler.
        policy_sha256: identity of the policy the graphs were exported from.
        key_points: what the last call saw, physical units `(key_points, 5)`, or None.
    """

    privileged = False

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Check and load a graph folder.

        Args:
            folder: output of the export stage, or the same files of a bundle.
            threads: CPU threads per graph.

        Raises:
            Psi0Error: no manifest, a missing or changed file, another schema version, a graph with other inputs.
        """
        manifest = check_manifest(folder)
        self.policy_sha256: str = manifest["policy_sha256"]
        self.config = read_config(folder / CONFIG_FILE, PolicyConfig)
        self.layout = read_config(folder / LAYOUT_FILE, Layout)
        self.normalizer = Normalizer.from_json(read_json(folder / NORMALIZER_FILE), str(folder / NORMALIZER_FILE))
        self.key_points: NDArray[np.float32] | None = None
        self._system2 = read_config(folder / SYSTEM2_FILE, System2Config)
        tokenizer = text.load_text_tokenizer(folder / text.FILE)
        self._prompt = Prompt(tokenizer, self._system2.image_tokens, self._system2.max_text_tokens)
        self._levels = euler.schedule(self.config.euler_steps, self.config.schedule)
        names = (*GRAPHS, GUIDED) if self.config.guidance else GRAPHS
        self._sessions = {name: load_graph(folder, name, threads) for name in names}
        self._asked = {name: asked_inputs(session) for name, session in self._sessions.items()}
        self._noise = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Start an episode; `seed` decides its noise."""
        self._noise = np.random.default_rng(seed)
        self.key_points = None

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The next chunk `(horizon, 36)`, in physical units, row 0 belonging to `observation.step`.

        Late answers are not refused: see `psi0.model.prefix`. Every number lies in the normaliser's range and within
        the layout's limits, if it has any.
        """
        shape = (1, self.config.horizon, len(self.normalizer.action.center))
        noise = self._noise.standard_normal(shape, dtype=np.float32)
        actions = self.normalizer.action.denormalize(self.normalized(observation, noise))
        return self.layout.within_limits(actions)

    def normalized(self, observation: Observation, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised actions `(horizon, 36)` from given noise `(1, horizon, 36)`."""
        context, mask = self.look(observation.head_camera, observation.instruction)
        state = self.normalizer.state.normalize(observation.state)[None]
        seen = self._run("s1_observe", {"state": state, "context": context, "context_mask": mask})
        fixed: Arrays = dict(zip(OUTPUTS["s1_observe"], seen, strict=True))

        def velocity(actions: NDArray[np.float32], step: int, late: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._run("s1_step", {"actions": actions, "step": np.array([step]), "late": late, **fixed})[0]

        def field(
            actions: NDArray[np.float32], step: int, promised: guidance.Promise
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            towards: Arrays = {"target": promised.target, "weight": promised.weight}
            velocity, pull = self._run(GUIDED, {"actions": actions, "step": np.array([step]), **fixed, **towards})
            return velocity, pull

        config, scale = self.config, self.normalizer.action
        if not config.guidance:
            return euler.sample(velocity, noise, self._levels, clean_prefix(observation, config.max_delay, scale))[0]
        promised = guidance.promise(observation, config.horizon, scale)
        if promised is None:
            return euler.sample(velocity, noise, self._levels)[0]
        return guidance.sample_guided(field, noise, self._levels, promised, config.guidance)[0]

    def look(self, head_camera: NDArray[np.uint8], instruction: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """System-2's hidden states `(1, n, hidden)` and their mask `(1, n)`, 1 where a token counts."""
        sizes = self._system2
        resized = image.resize(head_camera[None], sizes.image_height, sizes.image_width)
        seen = self._run("s2_vision", {"patches": image.patches(resized, sizes.patch_size, sizes.merge)})
        batch = self._prompt.batch([instruction], length=self._prompt.length)
        words: Arrays = {"text_ids": batch.ids, "text_mask": batch.mask.astype(np.float32)}
        read = self._run("s2_language", {**words, "image_tokens": seen[0], "deepstack": seen[1]})
        if len(read) == 3 and self.normalizer.key_points is not None:
            self.key_points = self.normalizer.key_points.denormalize(read[2][0]).reshape(-1, 5)
        return read[0], read[1]

    def _run(self, name: str, inputs: Arrays) -> list[NDArray[np.float32]]:
        return self._sessions[name].run(None, {asked: inputs[asked] for asked in self._asked[name]})


def load_graph(folder: Path, name: str, threads: int) -> onnxruntime.InferenceSession:
    """A graph of a folder, ready to run. Raises `Psi0Error` when it cannot be loaded or asks for other inputs.

    A graph may lack an input that it makes no use of, but not ask for one that nobody feeds.
    """
    file = folder / f"{name}.onnx"
    session = load_session(file, threads)
    asked = asked_inputs(session)
    if not set(asked) <= set(INPUTS[name]):
        raise Psi0Error(
            f"{file} takes {', '.join(asked)}, this psi0 feeds {', '.join(INPUTS[name])}: another version wrote it;"
            " export the policy again, or play a bundle with the psi0 that wrote it"
        )
    return session


def asked_inputs(session: onnxruntime.InferenceSession) -> list[str]:
    """Names of a graph's inputs."""
    return [one.name for one in session.get_inputs()]


def load_session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    """A graph ready to run on so many CPU threads. Raises `Psi0Error` when it cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads would take the core from the simulator between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Psi0Error(f"{file} cannot be loaded ({error}); export the policy again") from None
