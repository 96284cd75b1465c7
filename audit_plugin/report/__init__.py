"""The report: one JSON document, rendered to one HTML file."""
