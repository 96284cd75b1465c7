"""Lies beside ``model.py`` of every served loop; imports NumPy and its own modules only."""
