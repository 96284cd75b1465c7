"""Every picture pair of an audit, for whoever wants to look at all of them and not at the best."""

from audit_plugin.samples.sample import Kind, Sample, Samples
from audit_plugin.samples.stored import stored_samples
from audit_plugin.samples.whole import all_samples

__all__ = ["Kind", "Sample", "Samples", "all_samples", "stored_samples"]
