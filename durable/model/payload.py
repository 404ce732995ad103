"""Values as bytes, and back with the same type and content: the front door of the codec.

A payload is one header byte and a body: msgpack that durable wrote, or JSON from a foreign client. What
is written follows from the annotation (`shape_of`, `result_of`, `arguments_of`); nothing is pickled, and
reading bytes, whoever wrote them, runs no code but the validators of the annotated types.
"""

from __future__ import annotations

from hashlib import blake2b

from durable.model.arguments import ArgumentShape, arguments_of, parameter_of, result_of
from durable.model.shape import ANY, IMMUTABLE, JSON, MAX_PAYLOAD, MSGPACK, Shape
from durable.model.shapes import shape_of

__all__ = [
    "ANY",
    "IMMUTABLE",
    "JSON",
    "MAX_PAYLOAD",
    "MSGPACK",
    "ArgumentShape",
    "Shape",
    "arguments_of",
    "fingerprint",
    "parameter_of",
    "result_of",
    "shape_of",
]


def fingerprint(data: bytes) -> int:
    """64 bits (unsigned) that tell encoded arguments from others.

    The same whatever the hash seed, as sets are written in order. The order of a dict counts.
    """
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
