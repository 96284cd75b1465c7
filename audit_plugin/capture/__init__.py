"""Capture: a bounded sample of production pictures, from KServe's logger or a client's middleware, as a source of images for audits."""
