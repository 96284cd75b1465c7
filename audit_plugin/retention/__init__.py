"""Deleting: what is old (`prune`), and what is asked to be forgotten (`forget`); aggregates stay."""

from audit_plugin.retention.forget import Forgotten, Places, forget
from audit_plugin.retention.prune import Doomed, doomed, prune

__all__ = ["Doomed", "Forgotten", "Places", "doomed", "forget", "prune"]
