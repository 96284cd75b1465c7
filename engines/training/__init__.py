"""Train a small text-to-image pipeline from captioned images, and write it as a diffusers directory of the Stable Diffusion 1.x class."""

from engines.training.checkpoint import Spent
from engines.training.data import CaptionedImages
from engines.training.errors import TrainingDataError, TrainingError
from engines.training.options import Recipe
from engines.training.train import TrainingReport, train_pipeline

__all__ = ["CaptionedImages", "Recipe", "Spent", "TrainingDataError", "TrainingError", "TrainingReport", "train_pipeline"]
