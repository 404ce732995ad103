"""The linter: what in the source of workflows would break a replay, found before anything runs.

It reads the text alone, imports nothing of what it checks, and says nothing of what it cannot tell for certain.

    files -> names (what each name means) -> code (what of it is workflow code) -> checks -> findings
"""

from __future__ import annotations

from durable.lint.files import python_files
from durable.lint.finding import Finding
from durable.lint.reading import DEFAULT, lint_file, lint_source
from durable.lint.rules import RULES, Rule

__all__ = ["DEFAULT", "RULES", "Finding", "Rule", "lint_file", "lint_source", "python_files"]
