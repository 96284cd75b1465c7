"""Train a small text-to-image pipeline from captioned images."""
