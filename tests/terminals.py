"""A terminal of a given width to print on."""

import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from typing import TextIO


class Terminal:
    """A pseudo-terminal: `stream` prints on it, `text` is all that was printed."""

    def __init__(self, stream: TextIO, screen: int) -> None:
        self.stream, self._screen, self._printed = stream, screen, b""

    @property
    def text(self) -> str:
        """What was printed since the last look, and before."""
        self.stream.flush()
        return self.printed()

    def printed(self) -> str:
        """Returns what has reached the terminal without a flush."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._screen, 1 << 16):
                self._printed += part
        return self._printed.decode()

    def lines(self) -> list[str]:
        """Every state that a line of the terminal was in."""
        return [line for line in self.text.replace("\n", "\r").split("\r") if line.strip()]


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """Yields a terminal; it holds some 4 kB between two looks at its text."""
    screen, descriptor = pty.openpty()
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.set_blocking(screen, False)
    try:
        # As the commands print: nothing is there before a flush.
        with open(descriptor, "w", buffering=1 << 13, encoding="utf-8") as stream:
            yield Terminal(stream, screen)
    finally:
        os.close(screen)
