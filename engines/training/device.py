"""Where training happens."""

import torch

from engines.training.errors import TrainingError


def usable(device: str) -> torch.device:
    """The device, tried.  Raises TrainingError with the vendor's reason."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}); use cpu") from error
    return torch.device(device)


def device_name(device: str) -> str:
    """As the vendor calls it."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
