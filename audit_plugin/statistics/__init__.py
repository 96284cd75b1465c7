"""Intervals, tests, multiplicity, flip-table arithmetic: numbers in, numbers out; no images, files, clocks or configuration."""
