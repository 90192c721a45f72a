"""The paths that steer one worker, beside vLLM's own. For the pool manager, not for clients."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, HTTPException, Response

from twofold_cluster.identity import Role
from twofold_engine.announcing import AnnouncedWorker

PREFIX = "/twofold/v1"


def control_routes(announced: AnnouncedWorker) -> APIRouter:
    """Return the routes that show *announced*, drain it and change its role."""
    routes = APIRouter(prefix=PREFIX)

    @routes.get("/worker")
    async def worker() -> Response:
        return _as_json(announced)

    @routes.post("/drain")
    async def drain() -> Response:
        announced.drain()
        return _as_json(announced)

    @routes.post("/role")
    async def role(role: Annotated[str, Body(embed=True)]) -> Response:
        try:
            announced.become(Role(role))
        except ValueError as error:
            raise HTTPException(400, f"role must be one of {', '.join(Role)}") from error
        return _as_json(announced)

    return routes


def _as_json(announced: AnnouncedWorker) -> Response:
    return Response(msgspec.json.encode(announced.worker), media_type="application/json")
