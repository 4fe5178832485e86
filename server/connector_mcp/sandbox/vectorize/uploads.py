"""Vectorize's uploads, workspaces and one-time tokens, emulated (facts: section 3; continued: section 6).

The address of an upload is outside the API: it needs no access token, takes the bytes once with the content type that
was announced, and is good for 15 minutes.
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_mcp.json_values import JsonObject, is_object
from connector_mcp.sandbox import seed
from connector_mcp.sandbox.emulator import json_response
from connector_mcp.sandbox.vectorize import wire
from connector_mcp.sandbox.vectorize.pipelines import FILES
from connector_mcp.sandbox.world import World

STORAGE: Final = "/storage/"
_UPLOADS: Final = "vectorize.uploads"
_BASE: Final = f"{wire.ORGANIZATION}/uploads/{{connector}}/files"
_MINUTES: Final = 15


class VectorizeUploads:
    """The operations on uploaded files, workspaces and one-time tokens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes = (
            Route(_BASE, self._list, methods=["GET"]),
            Route(_BASE, self._start, methods=["PUT"]),
            Route(f"{_BASE}/{{file}}", self._delete, methods=["DELETE"]),
            Route(f"{wire.ORGANIZATION}/workspaces", self._workspaces, methods=["GET"]),
            Route(f"{wire.ORGANIZATION}/workspaces/{{workspace}}", self._workspace, methods=["GET"]),
            Route(f"{wire.ORGANIZATION}/generateOneTimeConnectorToken", self._token, methods=["POST"]),
        )

    async def store(self, request: Request) -> Response:
        """Take the bytes of a file, as the storage does."""
        upload = self._world.get(_UPLOADS, request.url.path.removeprefix(STORAGE))
        if request.method != "PUT" or upload is None or datetime.fromisoformat(upload["until"]) < self._world.now():
            return Response(status_code=403)
        if request.headers.get("content-type") != upload["contentType"] or "authorization" in request.headers:
            return Response(status_code=403)
        name: str = upload["name"]
        file: JsonObject = {
            "key": f"{seed.VECTORIZE_ORGANIZATION_ID}/{upload['connector']}/{name}",
            "name": name,
            "size": len(await request.body()),
            "extension": name.rpartition(".")[2],
            "lastModified": self._world.timestamp(),
            "metadata": upload["metadata"],
            "connector": upload["connector"],
        }
        self._world.put(FILES, file["key"], file)
        self._world.delete(_UPLOADS, upload["id"])
        return Response(status_code=200)

    async def _list(self, request: Request) -> Response:
        connector = self._connector(request)
        stored = [each for each in self._world.all(FILES) if each["connector"] == connector]
        files = [{key: member for key, member in each.items() if key not in ("id", "connector")} for each in stored]
        return wire.page_of(request, files, "files", message=wire.DONE)

    async def _start(self, request: Request) -> Response:
        connector, body = self._connector(request), await wire.object_body(request)
        wire.require_text(body, "name", "contentType")
        try:
            metadata = json.loads(body.get("metadata", "{}"))
        except (ValueError, TypeError):
            metadata = None
        if not is_object(metadata):
            raise wire.invalid("metadata: expected a text that holds a JSON object.")
        token = f"sandbox-secret-{secrets.token_urlsafe(18)}"
        until = self._world.now() + timedelta(minutes=_MINUTES)
        upload: JsonObject = {"id": token, "connector": connector, "metadata": metadata, "until": until.isoformat()}
        self._world.put(_UPLOADS, token, upload | {key: body[key] for key in ("name", "contentType")})
        host = request.headers.get("host", "")
        origin = f"https://{host}" if host.endswith(".sandbox.invalid") else f"http://{host}/vectorize"
        return json_response({"uploadUrl": f"{origin}{STORAGE}{token}"})

    async def _delete(self, request: Request) -> Response:
        connector, name = self._connector(request), request.path_params["file"]
        key = f"{seed.VECTORIZE_ORGANIZATION_ID}/{connector}/{name}"
        if self._world.get(FILES, key) is None:
            raise wire.error(404, "File not found", name)
        self._world.delete(FILES, key)
        return wire.done(fileName=name)

    def _connector(self, request: Request) -> str:
        found = wire.find_connector(self._world, request.path_params["connector"], ["sources"])
        if found["type"] != "FILE_UPLOAD":
            raise wire.error(400, "Connector does not support uploads", f"Its type is {found['type']}.")
        return found["id"]

    async def _workspaces(self, request: Request) -> Response:
        return wire.page_of(request, [*map(_workspace, seed.VECTORIZE_WORKSPACES)], "workspaces")

    async def _workspace(self, request: Request) -> Response:
        wanted = request.path_params["workspace"]
        if wanted not in seed.VECTORIZE_WORKSPACES:
            raise wire.error(404, "Workspace not found", wanted)
        return json_response(_workspace(wanted))

    async def _token(self, request: Request) -> Response:
        body = await wire.object_body(request)
        wire.require_text(body, "user_id", "connector_id")
        found = wire.find_connector(self._world, body["connector_id"], ["sources"])
        if not found["type"].endswith("_OAUTH_MULTI"):
            raise wire.error(400, "Connector does not support users", f"Its type is {found['type']}.")
        expires = int(self._world.now().timestamp()) + 600
        token = f"sandbox-secret-{secrets.token_urlsafe(18)}"
        return json_response({"token": token, "expires_at": expires, "ttl": 600})


def _workspace(identifier: str) -> JsonObject:
    return {"id": identifier, "name": identifier.removeprefix("ws_")}
