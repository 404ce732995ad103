"""Histories told to people: every event in a sentence, a run as a picture, and how values read.

For shells and tests; made from public records alone, so it looks the same wherever it is shown.
"""

from __future__ import annotations

from durable.telling.drawing import timeline
from durable.telling.one_line import summary, waiting_in_words
from durable.telling.sentences import told
from durable.telling.story import Story, story_of
from durable.telling.words import between, clean, count, duration, moment, plain, short

__all__ = [
    "Story",
    "between",
    "clean",
    "count",
    "duration",
    "moment",
    "plain",
    "short",
    "story_of",
    "summary",
    "timeline",
    "told",
    "waiting_in_words",
]
