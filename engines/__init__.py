"""Diffusion engines.  Importable alone; knows nothing of auditing; images and latents are torch tensors in [-1, 1]."""
