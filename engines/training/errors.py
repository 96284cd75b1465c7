"""Why a pipeline cannot be trained."""

from engines.errors import EngineError


class TrainingError(EngineError):
    """A training run cannot start, go on or end."""


class TrainingDataError(TrainingError):
    """The captioned images cannot be used."""
