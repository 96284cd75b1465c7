"""The embedded demonstration: a real Triton server, scenes, planted classifiers."""
