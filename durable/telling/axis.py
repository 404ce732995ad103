"""Time on a line of characters, where an idle week takes no more room than a busy second.

Durable runs sleep for days between moments of work. A linear axis shows the sleep and nothing of
the work, so gaps in which nothing happened are folded to a few columns, and say how long they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

FOLD_COLUMNS = 7
"""How wide a folded gap is: room for `┈ 12 d ┈`."""

FOLD_SECONDS = 20.0
FOLD_FACTOR = 5
"""A gap is folded when it is longer than this many seconds and than this many times the usual work."""

MICROSECOND = 1e-6
"""The finest that histories know; shorter than this is rounding."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the axis: times `start` to `end` lie on columns `left` to `right`."""

    start: float
    end: float
    left: float
    right: float
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A map from times to columns."""

    stretches: Sequence[Stretch]

    def column(self, at: float) -> int:
        """Return the column of a time; times outside fall on the nearest end."""
        for stretch in self.stretches:
            if at <= stretch.end:
                length = stretch.end - stretch.start
                share = max(0.0, at - stretch.start) / length if length else 0.0
                return int(stretch.left + share * (stretch.right - stretch.left))
        return int(self.stretches[-1].right)

    @property
    def folds(self) -> Iterable[Stretch]:
        """The gaps that were folded."""
        return (stretch for stretch in self.stretches if stretch.folded)


def axis(busy: Sequence[Interval], start: float, end: float, width: int) -> Axis:
    """Lay `start` to `end` on `width` columns; `busy` are the times in which something happened."""
    gaps = [gap for gap in _gaps(busy, start, end) if gap[1] - gap[0] > _threshold(busy)]
    gaps = gaps[: max(0, (width // 2) // FOLD_COLUMNS)]
    linear = (end - start) - sum(stop - begin for begin, stop in gaps)
    scale = (width - FOLD_COLUMNS * len(gaps)) / linear if linear > MICROSECOND else 0.0
    stretches: list[Stretch] = []
    at, left = start, 0.0
    for begin, stop in [*gaps, (end, end)]:
        right = left + (begin - at) * scale
        stretches.append(Stretch(at, begin, left, right))
        if stop > begin:
            stretches.append(Stretch(begin, stop, right, right + FOLD_COLUMNS, folded=True))
        at, left = stop, stretches[-1].right
    return Axis(stretches)


def _threshold(busy: Sequence[Interval]) -> float:
    lengths = [end - begin for begin, end in busy if end > begin]
    return max(FOLD_SECONDS, FOLD_FACTOR * median(lengths)) if lengths else FOLD_SECONDS


def _gaps(busy: Sequence[Interval], start: float, end: float) -> Iterable[Interval]:
    at = start
    for begin, stop in [*sorted(busy), (end, end)]:
        if begin > at:
            yield at, begin
        at = max(at, stop)
