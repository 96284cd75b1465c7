"""Triton loads this file; ``audit_loop`` lies beside it."""

from audit_loop.counterfactual import TritonPythonModel  # type: ignore[import-not-found]  # noqa: F401  # found beside it on the server
