"""The pages: server-rendered, no build step, nothing from elsewhere."""

from fastapi import APIRouter

from audit_plugin.service.desk import Desk
from audit_plugin.service.pages import explorer, findings, fleet, guide, model, result, runs, static, stream


def pages(desk: Desk) -> APIRouter:
    """All pages."""
    router = APIRouter(include_in_schema=False)
    for part in (fleet, model, stream, runs, explorer, result, findings):
        part.add(router, desk)
    guide.add(router)
    static.add(router)
    return router
