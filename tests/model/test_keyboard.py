"""Driving by hand: what each key does, where keys come from, and the whole of it in a terminal."""

import io
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from psi0.params import Camera, Control, parse_params
from psi0.robot.constants import CLOSED_RIGHT, OPEN_LEFT, OPEN_RIGHT
from psi0.robot.kinematics import ArmKinematics
from psi0.robot.layout import ACTION_NAMES, ActionPart
from psi0.sim.world import World, make_world
from psi0.watch.keyboard import Keyboard
from psi0.watch.keys import KEY_HELP, PipedKeys, WindowKeys, open_keys
from psi0.watch.play import play

PATIENCE = 240.0


class Typed:
    """Keys given in a test: each call hands out the next."""

    live = False

    def __init__(self) -> None:
        self.waiting = ""

    def pressed(self) -> str | None:
        keys, self.waiting = self.waiting, ""
        return keys


class Driver:
    """A keyboard in a world that stands still: only what is commanded matters here."""

    def __init__(self, world: World) -> None:
        self.said: list[str] = []
        self._keys = Typed()
        world.reset(600000)
        self.keyboard = Keyboard(world, self._keys, self.said.append)
        self._observation = world.observe()

    def press(self, keys: str, steps: int = 1) -> np.ndarray:
        """The action `(36,)` some steps after keys were pressed."""
        self._keys.waiting = keys
        return [self.keyboard.act(self._observation)[0] for _ in range(steps)][-1]


@pytest.fixture(scope="module")
def world(robot_folder: Path) -> Iterator[World]:
    yield make_world("pick_can", Control(), Camera(width=64, height=36), robot_folder=robot_folder, render=False)


@pytest.fixture
def driver(world: World) -> Driver:
    return Driver(world)


@pytest.mark.parametrize(
    ("keys", "name", "value"),
    [
        ("ww", "velocity_x", 0.4),
        ("s", "velocity_x", -0.2),
        ("a", "velocity_y", 0.2),
        ("d", "velocity_y", -0.2),
        ("z", "velocity_yaw", 0.2),
        ("c", "velocity_yaw", -0.2),
        ("wazx", "velocity_x", 0.0),
        ("ff", "height", 0.716),
        ("r", "height", 0.776),
        ("tt", "torso_pitch", 0.1),
        ("g", "torso_pitch", -0.05),
        ("w" * 30, "velocity_x", 1.0),
        ("f" * 30, "height", 0.55),
    ],
)
def test_a_key_moves_a_command_by_a_step_and_never_beyond_its_limit(
    driver: Driver, keys: str, name: str, value: float
) -> None:
    assert driver.press(keys)[ACTION_NAMES.index(name)] == pytest.approx(value, abs=1e-6)
    assert driver.press("")[ACTION_NAMES.index(name)] == pytest.approx(value, abs=1e-6), "it stays until changed"


def test_hands_close_and_open_one_at_a_time(driver: Driver) -> None:
    closed = driver.press("m", 10)
    np.testing.assert_allclose(closed[ActionPart.RIGHT_HAND], CLOSED_RIGHT, atol=1e-5)
    np.testing.assert_allclose(closed[ActionPart.LEFT_HAND], OPEN_LEFT, atol=1e-5)
    np.testing.assert_allclose(driver.press("n", 10)[ActionPart.RIGHT_HAND], OPEN_RIGHT, atol=1e-5)
    assert np.abs(driver.press("hm", 10)[ActionPart.LEFT_HAND] - OPEN_LEFT).max() > 1
    assert "left hand closed" in driver.said[-1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_keys_move_a_hand_by_inverse_kinematics(driver: Driver, robot_folder: Path, side: str) -> None:
    part = ActionPart.LEFT_ARM if side == "left" else ActionPart.RIGHT_ARM
    kinematics = ArmKinematics(robot_folder, side)
    other = "h" if side == "left" else ""

    def hand(keys: str) -> np.ndarray:
        return kinematics.forward(driver.press(keys, 25)[part].astype(float))[0]

    before = hand(f"{other}ik")
    np.testing.assert_allclose(hand("iiii") - before, [0.12, 0.0, 0.0], atol=0.015)
    np.testing.assert_allclose(hand("oo") - before, [0.12, 0.0, -0.06], atol=0.015)
    np.testing.assert_allclose(hand("jj") - before, [0.12, 0.06, -0.06], atol=0.015)


def test_a_hand_goes_no_further_than_it_reaches_and_comes_back_at_once(driver: Driver) -> None:
    driver.press("i" * 40, 30)
    assert "out of reach of the right hand" in driver.said
    stretched = driver.press("", 5)[ActionPart.RIGHT_ARM]
    assert np.abs(driver.press("kkkk", 10)[ActionPart.RIGHT_ARM] - stretched).max() > 0.05


def test_every_key_of_the_help_does_something_and_others_are_named(driver: Driver) -> None:
    columns = [line[start : start + 5] for line in KEY_HELP.splitlines() for start in (0, 32)]
    keys = {key for column in columns for key in column.split()} | {"q"}
    assert len(keys) == 22
    driver.press("".join(sorted(keys)))
    assert not [line for line in driver.said if "does nothing" in line]
    assert KEY_HELP in driver.said and driver.keyboard.stopped
    driver.press("y.")
    assert driver.said[-2:] != [] and "'y' does nothing; ? lists the keys" in driver.said


def test_a_file_drives_one_key_a_step_and_ends_the_episode(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = parse_params({"camera": {"width": 72, "height": 40}}, "test")
    monkeypatch.setattr(sys, "stdin", io.StringIO("w\n..W\n"))
    said: list[str] = []
    played = play(params, "pick_can", 7, "keyboard", here / "driven.mp4", say=said.append)
    assert (played.tag, played.steps) == ("stopped", 5)
    assert said[0] == KEY_HELP and "walk +0.4" in said[-1] and "  0.3 s" in said[-1]
    assert (here / "driven.mp4").read_bytes()[4:8] == b"ftyp"


def test_piped_keys_end_with_their_stream() -> None:
    keys = PipedKeys(io.StringIO("a\r\nB"))
    assert [keys.pressed() for _ in range(3)] == ["a", "b", None]


def test_keys_of_a_window_come_before_those_of_the_terminal_and_outlive_them() -> None:
    keys = WindowKeys(PipedKeys(io.StringIO("a")))
    for code in (ord("W"), 265, ord("/")):
        keys.callback(code)
    assert keys.pressed() == "w/a"
    assert keys.pressed() == ""
    keys.callback(ord("Q"))
    assert keys.pressed() == "q"


def test_a_terminal_gives_keys_at_once_and_is_itself_again_afterwards() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as stream:
        before = termios.tcgetattr(slave)
        with pytest.raises(ZeroDivisionError), open_keys(stream) as keys:
            assert keys.live and keys.pressed() == ""
            assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
            os.write(master, b"W\x1b[A\x1bOBq")
            until = time.monotonic() + 5
            found = ""
            while len(found) < 2 and time.monotonic() < until:
                found += keys.pressed() or ""
            assert found == "wq", "arrows are no keys of ours"
            raise ZeroDivisionError
        assert termios.tcgetattr(slave) == before
        with open_keys(stream) as keys:
            os.close(master)
            assert keys.pressed() is None, "a connection that was cut ends the episode"


def test_a_person_drives_in_a_terminal(here: Path) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = ["psi0", "sim", "play", "pick_can", "--seed", "7", "--policy", "keyboard", "--out", "driven.mp4"]
    subprocess.run(["psi0", "params", "use", "tiny"], cwd=here, check=True, capture_output=True)
    running = subprocess.Popen(command, cwd=here, stdin=slave, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        said = []
        for line in running.stdout:
            said.append(line)
            if "stop" in line and len(said) < 10:
                os.write(master, b"w")
            if "walk +0.2" in line:
                os.write(master, b"?q")
        assert running.wait(timeout=PATIENCE) == 0
    finally:
        running.kill()
        after = termios.tcgetattr(slave)
        os.close(master)
        os.close(slave)
    assert after == before
    assert "".join(said).count("walk forward, backward") == 2 and "driven.mp4: stopped" in said[-1]
    assert (here / "driven.mp4").stat().st_size > 1000
