"""How fast a prepared dataset becomes training arrays, against opening and seeking the video frame by frame.

Run: `python benchmarks/dataset_reader.py data/prepared/demonstrations/pick_can`
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

FRAMES = 500


def rate(work: Callable[[], int]) -> float:
    """Frames per second of wall time."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def main(folder: Path) -> None:
    """Print four lines: seeking by hand, on demand, filling the cache, reading the cache."""
    import os

    from psi0.data.dataset import LeRobotDataset

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PSI0_HOME"] = scratch
        cached, direct = LeRobotDataset(folder), LeRobotDataset(folder, cache=False)
        rows = np.random.default_rng(0).integers(0, len(cached), FRAMES)
        stamps, frame_index = cached.column("timestamp"), cached.column("frame_index")
        video = sorted((folder / "videos").rglob("*.mp4"))[0]

        def by_hand() -> int:
            for row in rows:
                seconds = float(stamps[row]) + (row - frame_index[row]) / cached.fps
                with av.open(str(video), "r") as container:
                    stream = container.streams.video[0]
                    container.seek(int(seconds / (stream.time_base or 1)), stream=stream, backward=True)
                    next(
                        frame.to_ndarray(format="rgb24")
                        for frame in container.decode(stream)
                        if frame.time is not None and frame.time >= seconds - 1e-3
                    )
            return len(rows)

        def read(batches: int) -> int:
            random = np.random.default_rng(1)
            return sum(len(cached.images(random.integers(0, len(cached), 48))) for _ in range(batches))

        print(f"seeking by hand    {rate(by_hand):8.0f} frames/s")
        print(f"on demand          {rate(lambda: len(direct.images(rows))):8.0f} frames/s")
        print(f"filling the cache  {rate(lambda: len(cached.images([0])) * len(cached)):8.0f} frames/s")
        print(f"reading the cache  {rate(lambda: read(100)):8.0f} frames/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
