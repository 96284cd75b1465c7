"""Concept sets: schema, captions, import."""
