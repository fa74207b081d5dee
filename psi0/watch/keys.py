"""Where key presses come from: a terminal, a pipe or file, a window; and what each of them does, in words."""

import os
import re
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Protocol, TextIO

KEY_HELP = """\
w s  walk forward, backward       i k  hand forward, back
a d  walk left, right             j l  hand left, right
z c  turn left, right             u o  hand up, down
x    stand still                  h    drive the other hand
r f  pelvis up, down              n m  open, close the hand
t g  lean forward, back           ?    this list      q  stop"""
"""Capital letters count as small ones, so that caps lock and windows do no harm."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*[A-Za-z~]|O.)?")
_READ_BYTES = 1024


class Keys(Protocol):
    """A source of key presses."""

    live: bool
    """Whether a person presses them now: then time must run as fast as a clock."""

    def pressed(self) -> str | None:
        """The keys pressed since the last call, in order, in small letters; None when no more will come."""
        ...


class TerminalKeys:
    """A terminal, also over ssh: keys arrive without Enter and are not echoed. Use `open_keys`."""

    live = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pressed(self) -> str | None:
        """What was typed since the last call; arrows and other keys that send sequences count for nothing."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        try:
            typed = os.read(self._descriptor, _READ_BYTES).decode(errors="ignore")
        except OSError:  # The terminal is gone: the connection was cut.
            return None
        return _ESCAPE_SEQUENCE.sub("", typed).lower() if typed else None


class PipedKeys:
    """A file or pipe: one character per control step, line breaks left out; a file drives the same each time."""

    live = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def pressed(self) -> str | None:
        """The next character, or None at the end."""
        while (key := self._stream.read(1)) in ("\n", "\r"):
            pass
        return key.lower() or None


class WindowKeys:
    """Keys pressed in MuJoCo's viewer, besides those of another source; when that one ends, the window's go on."""

    live = True

    def __init__(self, other: Keys | None) -> None:
        self._other = other
        self._waiting: SimpleQueue[str] = SimpleQueue()

    def callback(self, code: int) -> None:
        """What the viewer calls, in its own thread, with GLFW's code of a key: the character of the key's cap."""
        if 32 <= code < 127:
            self._waiting.put(chr(code).lower())

    def pressed(self) -> str | None:
        """Keys of the window, then those of the other source."""
        keys = []
        while True:
            try:
                keys.append(self._waiting.get_nowait())
            except Empty:
                break
        typed = self._other.pressed() if self._other is not None else ""
        if typed is None:
            self._other = None
        return "".join(keys) + (typed or "")


@contextmanager
def open_keys(stream: TextIO | None = None) -> Iterator[Keys]:
    """The keys of a stream (default: standard input). A terminal is as it was when the block ends."""
    source = stream if stream is not None else sys.stdin
    if not source.isatty():
        yield PipedKeys(source)
        return
    descriptor = source.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield TerminalKeys(descriptor)
    finally:
        with suppress(termios.error):  # A terminal that is gone needs no restoring.
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
