"""Calls of what a replay would see, draw or do again: families 1 and 2."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, called, shown
from durable.lint.forbidden import READS, rule_of_call


def check_calls(code: WorkflowCode) -> Iterator[Offence]:
    """Find calls of forbidden names, and looks at forbidden variables."""
    for node in code.nodes:
        match node:
            case ast.Call():
                rule = rule_of_call(code.names.qualify(node.func), node)
                if rule:
                    yield Offence(rule, node, called(node))
            case ast.Attribute() | ast.Name(ctx=ast.Load()):
                rule = READS.get(code.names.qualify(node) or "")
                if rule:
                    yield Offence(rule, node, shown(node))
            case _:
                pass
