"""Files that are copied into model repositories: they run inside Triton's Python backend, with NumPy and without the rest of engines."""
