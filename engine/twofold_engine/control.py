"""The paths that steer one worker, beside vLLM's own. For the pool manager, not for clients."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, HTTPException, Response

from twofold_cluster.identity import Role
from twofold_engine.announcing import AnnouncedWorker
from twofold_engine.chains import Name
from twofold_engine.errors import NotDeliveredError
from twofold_engine.paths import PREFIX


def control_routes(announced: AnnouncedWorker, name: Name | None) -> APIRouter:
    """Return the routes that show *announced*, drain it, change its state and its role, and *name*
    the blocks of a prompt.

    *name*: None where the names mean nothing to other workers.
    """
    routes = APIRouter(prefix=PREFIX)

    @routes.get("/worker")
    async def worker() -> Response:
        return _as_json(announced)

    @routes.get("/busy")
    async def busy() -> Response:
        return Response(
            msgspec.json.encode({"busy": announced.is_busy()}), media_type="application/json"
        )

    @routes.post("/drain")
    async def drain() -> Response:
        if announced.is_up:
            await announced.drain()
        return _as_json(announced)

    @routes.post("/standby")
    async def standby(standby: Annotated[bool, Body(embed=True)]) -> Response:
        try:
            if announced.is_up:
                await announced.stand_by(standby)
        except NotDeliveredError as error:
            raise HTTPException(503, str(error)) from error
        return _as_json(announced)

    @routes.post("/role")
    async def role(role: Annotated[str, Body(embed=True)]) -> Response:
        try:
            if announced.is_up:
                announced.become(Role(role))
        except ValueError as error:
            raise HTTPException(400, f"role must be one of {', '.join(Role)}") from error
        return _as_json(announced)

    @routes.post("/chain")
    async def chain(body: Annotated[dict[str, Any], Body()]) -> Response:
        if name is None:
            raise HTTPException(501, "the engine hashes blocks with a secret of its own")
        return Response(msgspec.json.encode(await name(body)), media_type="application/json")

    return routes


def _as_json(announced: AnnouncedWorker) -> Response:
    if not announced.is_up:
        raise HTTPException(503, "the worker has not generated its first token yet")
    return Response(msgspec.json.encode(announced.worker), media_type="application/json")
