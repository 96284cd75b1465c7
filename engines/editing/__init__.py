"""Editing of real images: exact inversion, edits along differences of predictions, and flows without inversion."""
