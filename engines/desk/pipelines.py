"""The networks of a pipeline directory, before anybody has built them."""

from pathlib import Path

from engines.directory import read_parts
from engines.network import Network
from engines.pipelines.building import image_shape, networks_of, process_of
from engines.pipelines.plans import settle
from engines.pipelines.prompts import prompts_of
from engines.pipelines.schedulers import read_scheduler
from engines.spec import Precision


def read_networks(directory: Path, precision: Precision = "fp32") -> tuple[Network, ...]:
    """Those that drawing builds, with the same keys.  Raises PipelineError."""
    parts = read_parts(directory)
    scheduler = read_scheduler(parts.scheduler)
    settled = settle(parts, scheduler, {}, directory)
    prompts = prompts_of(parts, image_shape(parts), settled.plan.guidance, settled.null_class)
    return networks_of(parts, process_of(parts, scheduler), prompts, precision)
