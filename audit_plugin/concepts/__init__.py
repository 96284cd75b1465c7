"""Concepts a caption can express: the set, its captions, and how a user writes it down."""
