"""Randomness is an argument: one 64-bit seed per (audit, row, replicate), by hash.

Never per concept and never per batch, so a picture depends neither on the order of the work nor on its batch-mates.
"""

import hashlib


def seed(audit: str, row: str, replicate: int = 0) -> int:
    """63-bit non-negative seed (fits a signed SQL integer) from the three names, the same on every machine.

    >>> seed("demo", "row-1") == seed("demo", "row-1") != seed("demo", "row-1", 1)
    True
    """
    text = "\x1f".join((audit, row, str(replicate)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def digest(*parts: str) -> str:
    """First 32 hex digits of SHA-256 over the parts, separated unambiguously; identity of recipes, targets and files."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
