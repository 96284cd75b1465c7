"""Pins of everything that development installs: ``python -m tests.pins > constraints.txt``, in an environment made without it."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# Everything that development and CI install, pinned.  Written by `python -m tests.pins`.
# torch is the CPU build; users with a GPU install the `gpu` extra without this file.
"""
ROOT = "audit-plugin"


def closure(root: str = ROOT, extras: frozenset[str] = frozenset({"dev"})) -> dict[str, str]:
    """Name -> version of all installed distributions that ``root[extras]`` needs, itself left out."""
    found: dict[str, str] = {}
    waiting = [(root, extras)]
    seen = set()
    while waiting:
        name, asked = waiting.pop()
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        if name != root:
            found[name] = distribution(name).version.partition("+")[0]
        waiting += needs(name, asked)
    return dict(sorted(found.items()))


def needs(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """What one distribution requires here and is installed; what only other platforms need is not."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        try:
            distribution(requirement.name)
        except PackageNotFoundError:
            continue
        yield canonicalize_name(requirement.name), frozenset(map(canonicalize_name, requirement.extras))


def pinned(text: str) -> dict[str, str]:
    """Name -> version of the lines of a constraints file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE))


if __name__ == "__main__":
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in closure().items()))
