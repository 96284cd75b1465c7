"""Audit deployed image classifiers for spurious features and bias, as a read-only client of their server."""

__version__ = "0.1.0"
