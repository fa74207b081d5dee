"""How fast is the simulated world, and where does its time go?

Run: `python benchmarks/sim.py`. Seconds are of processor time unless it says wall: other work on the machine stretches
the wall's. One core does one second of processor time per second when it is left alone.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from machine import describe_machine
from numpy.typing import NDArray

from psi0 import paths
from psi0.evaluate.evaluation import Arrangement, evaluate
from psi0.evaluate.resolve import resolve
from psi0.params import Camera, load_params
from psi0.robot.physics import mujoco
from psi0.robot.system0 import Proprioception, WalkingPolicy
from psi0.seeds import EVALUATION_SEEDS_START
from psi0.sim.rendering import describe_rendering
from psi0.sim.script import make_script
from psi0.sim.tasks import make_task
from psi0.sim.variation import Level
from psi0.sim.world import World, make_world

TASK, POLICY = "pick_can", "script"
LEVEL: Level = "L1"
SIZES = ((64, 36), (96, 54), (144, 80), (224, 126), (320, 180))
PHYSICS_STEPS, TICKS, FRAMES = 3000, 500, 60
_START = (
    "from psi0.params import load_params\n"
    "from psi0.sim.world import make_world\n"
    f"p = load_params(); w = make_world({TASK!r}, p.control, p.camera, {LEVEL!r})\n"
    f"w.reset({EVALUATION_SEEDS_START}); w.head_camera()\n"
)


class Watch:
    """Adds up the processor time of what runs `with` it."""

    def __init__(self) -> None:
        self.seconds, self._begun = 0.0, 0.0

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.process_time() - self._begun


class WatchedSystem0(WalkingPolicy):
    """System-0 that knows how long it took."""

    def __init__(self) -> None:
        self.watch = Watch()
        super().__init__()

    def step(self, felt: Proprioception, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same targets `(15,)`."""
        with self.watch:
            return super().step(felt, command)


def rate(times: int, function: Callable[[], object]) -> float:
    """Calls per second of processor time."""
    begun = time.process_time()
    for _ in range(times):
        function()
    return times / (time.process_time() - begun)


def physics_rate() -> float:
    """Physics steps per second of a robot that stands before the table."""
    params = load_params()
    world = make_world(TASK, params.control, params.camera, LEVEL, render=False)
    world.reset(EVALUATION_SEEDS_START)
    return rate(PHYSICS_STEPS, lambda: mujoco.mj_step(world.model, world.data))


def system0_rate() -> float:
    """Ticks of System-0 per second."""
    policy, rest = WalkingPolicy(), np.zeros(15)
    felt = Proprioception(rest, rest, np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(14), np.zeros(14))
    command = np.array([0.0, 0.0, 0.0, 0.756, 0.3, 0.0, 0.0, 0.0])
    return rate(TICKS, lambda: policy.step(felt, command))


def frame_rate(width: int, height: int) -> float:
    """Head-camera pictures per second at a size."""
    world = make_world(TASK, load_params().control, Camera(width=width, height=height), LEVEL)
    world.reset(EVALUATION_SEEDS_START)
    world.head_camera()
    found = rate(FRAMES, world.head_camera)
    world.close()
    return found


def shares(episodes: int) -> dict[str, float]:
    """Seconds per episode by part, the policy looking at every control step."""
    params, system0 = load_params(), WatchedSystem0()
    world = World(make_task(TASK), params.control, params.camera, LEVEL, paths.ROBOT, render=True, system0=system0)
    policy, looking, thinking, simulating, resetting = make_script(world), Watch(), Watch(), Watch(), Watch()
    in_reset = 0.0
    for seed in range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + episodes):
        before = system0.watch.seconds
        with resetting:
            world.reset(seed)
            policy.reset(seed)
        in_reset += system0.watch.seconds - before
        while world.outcome is None:
            with looking:
                picture = world.head_camera()
            with thinking:
                action = policy.act(world.observe(picture))[0]
            with simulating:
                world.step(action)
    parts = {
        "physics, judging included": simulating.seconds - system0.watch.seconds + in_reset,
        "pictures": looking.seconds,
        "System-0": system0.watch.seconds - in_reset,
        "the scripted policy": thinking.seconds,
        "reset": resetting.seconds,
    }
    world.close()
    return {name: seconds / episodes for name, seconds in parts.items()}


def children() -> tuple[float, float]:
    """Processor time of ended children so far [s], and the largest memory of any [MB]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def start_up() -> tuple[float, float]:
    """Seconds from nothing to the first picture in a process of its own: processor time, wall."""
    before, begun = children()[0], time.monotonic()
    subprocess.run([sys.executable, "-c", _START], check=True)
    return children()[0] - before, time.monotonic() - begun


def throughput(workers: int, episodes: int) -> tuple[float, float]:
    """Episodes per minute of wall, start included, and seconds of processor time per episode."""
    params = load_params()
    choice = params.evaluation.model_copy(update={"level": LEVEL, "workers": workers})
    params = params.model_copy(update={"evaluation": choice})
    seeds = range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + episodes)
    arm = Arrangement(POLICY, resolve(POLICY, params.control.chunk), "none", episodes, seeds=seeds)
    before, begun = children()[0], time.monotonic()
    evaluate(params, TASK, [arm], videos=0, keep=False)
    return 60 * episodes / (time.monotonic() - begun), (children()[0] - before) / episodes


def main() -> None:
    """Print rates, shares, start-up, and episodes per minute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="numbers of workers to try")
    parser.add_argument("--episodes", type=int, default=20, help="episodes per number of workers")
    chosen = parser.parse_args()
    camera = load_params().camera
    print(f"{describe_machine(f'MuJoCo {mujoco.__version__}')}; {describe_rendering()}")
    print(f"physics: {physics_rate():,.0f} steps/s; System-0: {system0_rate():,.0f} ticks/s")
    for width, height in SIZES:
        print(f"pictures of {width}x{height}: {frame_rate(width, height):.0f} per second", flush=True)
    parts = shares(5)
    print(f"one episode of {TASK}, {POLICY}, {camera.width}x{camera.height}: {sum(parts.values()):.2f} s, of which")
    for name, seconds in parts.items():
        print(f"  {name}: {seconds:.2f} s, {seconds / sum(parts.values()):.0%}")
    processor, wall = start_up()
    print(f"from nothing to the first picture: {processor:.1f} s ({wall:.1f} s wall)", flush=True)
    for workers in chosen.workers:
        per_minute, processor = throughput(workers, chosen.episodes)
        print(f"{workers} worker(s), {chosen.episodes} episodes: {per_minute:.1f} a minute of wall, start included; ")
        print(f"  {processor:.2f} s of processor time each, start included", flush=True)
    print(f"memory of the largest process: {children()[1]:.0f} MB")


if __name__ == "__main__":
    main()
