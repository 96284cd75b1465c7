"""Train a small generator from pictures with captions or without, or fine-tune a large one, and write it as a diffusers directory."""

from engines.training.captioned import CaptionedFolder, read_folder
from engines.training.checkpoint import Spent
from engines.training.data import CaptionedImages
from engines.training.errors import TrainingDataError, TrainingError
from engines.training.lora import train_lora
from engines.training.lora_card import LoraReport
from engines.training.lora_file import lora_delta, read_adapter
from engines.training.lora_options import LoraRecipe
from engines.training.options import Recipe
from engines.training.pixel_data import Pictures, read_pictures
from engines.training.pixel_options import PixelRecipe
from engines.training.pixels import train_pixels
from engines.training.train import TrainingReport, train_pipeline

__all__ = [
    "CaptionedFolder",
    "CaptionedImages",
    "LoraRecipe",
    "LoraReport",
    "Pictures",
    "PixelRecipe",
    "Recipe",
    "Spent",
    "TrainingDataError",
    "TrainingError",
    "TrainingReport",
    "lora_delta",
    "read_adapter",
    "read_folder",
    "read_pictures",
    "train_lora",
    "train_pipeline",
    "train_pixels",
]
