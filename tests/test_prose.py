"""What must not slip into files that others will read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tracked_files() -> list[Path]:
    """Files that git knows or would take; an unpacked source distribution has no git, and no machine."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def places_of_this_machine() -> re.Pattern[str]:
    """The directories above this checkout and the home directory, at the start of a path."""
    homes = [Path.home(), *(path for path in ROOT.parents if path.parent.parent == path.parent)]
    names = {
        str(path) for path in homes if path != path.parent and str(path) not in {"/tmp", "/usr"}
    }
    return re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(names)))})/")


def test_no_file_names_a_place_of_the_machine_that_it_was_written_on():
    pattern = places_of_this_machine()
    found = []
    for path in tracked_files():
        if path.is_symlink() or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("text", ["see {}/x", "'{}/x'", "open({}/x)"])
def test_the_pattern_finds_the_home_directory(text):
    assert places_of_this_machine().search(text.format(Path.home()))


def test_the_pattern_leaves_addresses_in_peace():
    assert not places_of_this_machine().search(f"https://example.com{ROOT}/x")
