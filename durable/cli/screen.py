"""The terminal: colour where it is wanted, and tables as wide as the window.

Into a pipe goes the same text without colour and without cuts. `NO_COLOR` and `TERM=dumb` are
heard, and an output that cannot show a glyph gets a plain letter instead.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from durable.telling import clean

STYLES: Mapping[str, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
}

STATUS_STYLES: Mapping[str, str] = {
    "pending": "dim",
    "running": "blue",
    "waiting": "yellow",
    "paused": "yellow",
    "blocked": "red",
    "compensating": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
    "terminated": "dim",
    "compensated": "magenta",
    "compensation_failed": "red",
}

_ASCII = str.maketrans(
    {
        "✓": "+", "✕": "x", "⚡": "!", "↻": ">", "█": "#", "▓": "#", "░": ":", "·": ".", "…": "~",
        "┈": ".", "▸": ">", "●": "*", "—": "-", "→": ">", "│": "|",
    }
)  # fmt: skip
"""What stands for a glyph where the output's encoding has no such thing."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A text with a style of `STYLES`."""

    text: str
    style: str = ""


def status_cell(status: str) -> Styled:
    """A run's status in its colour."""
    return Styled(status, STATUS_STYLES.get(status, ""))


@dataclass(frozen=True, slots=True)
class Screen:
    """An output, and what it can show."""

    out: TextIO
    colour: bool = False
    unicode: bool = True
    width: int | None = None
    """Columns of the window; None: no window, nothing is cut."""

    @classmethod
    def of(cls, out: TextIO) -> Screen:
        """Find out what this output can show."""
        window = out.isatty()
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        return cls(
            out,
            colour=window and not plain,
            unicode=(out.encoding or "").lower().replace("-", "") == "utf8",
            width=shutil.get_terminal_size().columns if window else None,
        )

    def line(self, *parts: str | Styled) -> None:
        """Write one line made of plain and styled texts."""
        self.out.write("".join(map(self._show, parts)) + "\n")
        self.out.flush()

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[str | Styled]], indent: str = ""
    ) -> None:
        """Write rows under headers; where the window is too narrow the widest column gives way."""
        texts = [list(headers), *([_text(cell) for cell in row] for row in rows)]
        widths = [
            max(display_width(row[column]) for row in texts) for column in range(len(headers))
        ]
        self._narrow(widths)
        heading = [Styled(header, "dim") for header in headers]
        for row in (heading, *rows):
            cells = [self._cell(cell, width) for cell, width in zip(row, widths, strict=True)]
            self.out.write(f"{indent}{'  '.join(cells)}".rstrip() + "\n")
        self.out.flush()

    def _narrow(self, widths: list[int]) -> None:
        room = self.width - 2 * (len(widths) - 1) if self.width else None
        while room is not None and sum(widths) > room and max(widths) > 8:
            widths[widths.index(max(widths))] -= 1

    def _cell(self, cell: str | Styled, width: int) -> str:
        text = cut(_text(cell), width)
        shown = self._show(Styled(text, cell.style) if isinstance(cell, Styled) else text)
        return shown + " " * (width - display_width(text))

    def _show(self, part: str | Styled) -> str:
        text = part if isinstance(part, str) else part.text
        if not self.unicode:
            text = text.translate(_ASCII).encode("ascii", "replace").decode()
        if isinstance(part, Styled) and part.style and self.colour:
            return f"\x1b[{STYLES[part.style]}m{text}\x1b[0m"
        return text


def _text(cell: str | Styled) -> str:
    return clean(cell if isinstance(cell, str) else cell.text)


def display_width(text: str) -> int:
    """How many columns a text takes: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Cut a text to so many columns, with an ellipsis where something is missing."""
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
