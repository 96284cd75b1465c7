"""Engines served by Triton: writes model repositories.  Entry point: :func:`engines.serving.export.export_triton`."""
