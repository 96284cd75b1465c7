"""Runs, scores and findings in SQL."""
