"""What keys do and what words mean."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from audit_plugin.core.results import GateStatus
from audit_plugin.service.pages.shown import shown
from audit_plugin.service.tokens import Role

_GATES = {
    "G0": "there are enough rows of every level",
    "G1": "the audited model treats drawn pictures like real ones",
    "G2": "the concept is as visible in drawn pictures as in real ones",
    "G3a, G3b": "changes that are asked for are made, and the old level is gone",
    "G4": "other concepts stay as they were",
    "G5": "the detector is good enough to judge",
    "G6": "a change of the caption without meaning changes nothing",
    "G7": "flips ask for combinations that occur",
    "G8": "the listed concepts explain the model",
    "G9": "pictures pass the quality filter",
}
_ROLES = {
    Role.READ: "look at pages, findings, reports and pictures",
    Role.RUN: "ask for runs and cancel them, acknowledge findings",
    Role.ADMIN: "read the audit log",
}


def add(router: APIRouter) -> None:
    """Its route."""

    @router.get("/help")
    def guide(request: Request) -> Response:
        """One page."""
        return shown(request, "help.html.j2", gates=_GATES, role_words=_ROLES, gate_states=list(GateStatus))
