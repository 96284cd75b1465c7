"""Independent judges of what an image shows."""
