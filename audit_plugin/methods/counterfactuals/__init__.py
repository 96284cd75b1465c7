"""What changes flip the deployed model's decision: who is given which target, figures over many flips, and what they are in a sentence."""

from audit_plugin.methods.counterfactuals.attributes import Attributes, why_no_gaps
from audit_plugin.methods.counterfactuals.figures import figures, gaps
from audit_plugin.methods.counterfactuals.summary import summary
from audit_plugin.methods.counterfactuals.targets import Aim, TargetPolicy, runner_up, targets

__all__ = ["Aim", "Attributes", "TargetPolicy", "figures", "gaps", "runner_up", "summary", "targets", "why_no_gaps"]
