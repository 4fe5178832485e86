"""Files of Vectorize's File Upload connectors, and workspaces (facts: sections 3 and 5; continued: section 6).

The bytes of a file go to an address that Vectorize makes for them, on another host, without the access token. Who has
the address can write the file, so it is kept as a secret: a result names it and never shows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import in_body
from connector_mcp.operations.operation import Effect, ListOperation, Operation, Record, Target, at
from connector_mcp.operations.platform import DELETE, GET, PUT
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.vectorize.connectors import pages_of
from connector_mcp.operations.vectorize.platform import VectorizeOperation

FILES = "/org/{organization_id}/uploads/{connector_id}/files"
_EXAMPLE_CONNECTOR = "550e8400-e29b-41d4-a716-446655440000"


class UploadedFile(Record):
    """A file of a File Upload connector."""

    key: str | None = None
    name: str | None = None
    size: float | None = None
    extension: str | None = None
    last_modified: str | None = None
    metadata: JsonObject | None = None


class StartedUpload(Record):
    """Where the bytes of a file go: a reference to the address, which is a secret."""

    upload_url: str | None = None


class DeletedFile(Record):
    """The name of a file that was deleted."""

    message: str | None = None
    file_name: str | None = None


class Workspace(Record):
    """A workspace of the organization."""

    id: str | None = None
    name: str | None = None


class UploadOperation(VectorizeOperation):
    """Base of the operations on uploaded files."""

    toolset = "vectorize.uploads"

    connector_id: Annotated[
        str, Field(description="Id of a File Upload connector. vectorize_get_source_connectors lists them.")
    ]


class GetUploadFilesFromConnector(UploadOperation, ListOperation):
    """List the files that were uploaded to a File Upload source connector."""

    http = GET(FILES)
    output = UploadedFile
    paging = pages_of("files")
    summary = ("name", "size", "lastModified")
    id_member = "name"
    example = {"connector_id": _EXAMPLE_CONNECTOR, "limit": 20}


def _file_of(argument: str) -> Target:
    """The file that an argument names. Its record is empty where the connector has no such file."""

    def select(operation: Operation, situation: Situation) -> Any:
        name = getattr(operation, argument)
        found = (members(row) for row in items(situation.current) if at(row, "name") == name)
        return next(found, dict[str, Any]())

    def name_of(operation: Operation, _: Any) -> str:
        return getattr(operation, argument)

    return Target("uploaded file", GetUploadFilesFromConnector, name=name_of, select=select)


class StartFileUploadToConnector(UploadOperation):
    """Prepare the upload of a file to a File Upload source connector. uploadUrl is kept in the secret store: the bytes
    are PUT there within minutes, with the same Content-Type. A file of the same name is overwritten."""

    http = PUT(FILES)
    effect = Effect.CREATE
    can_destroy = True
    output = StartedUpload
    mints = ("uploadUrl",)
    acts_on = _file_of("name")
    consequence = "Lets file {name} be uploaded to connector {connector_id}."
    example = {"connector_id": _EXAMPLE_CONNECTOR, "name": "research.pdf", "content_type": "application/pdf"}

    name: Annotated[str, Field(min_length=1, description="Name that the file gets, with its extension.")]
    content_type: Annotated[str, Field(min_length=1, description="Media type of the bytes, such as application/pdf.")]
    metadata: Annotated[
        JsonObject | None, Field(description="What to store with every piece of the file."), in_body(stored_as=None)
    ] = None

    def make_body(self, situation: Situation) -> Any:
        """Vectorize takes the metadata as text."""
        body = dict(self.given("body"))
        return body | ({"metadata": json.dumps(body["metadata"], ensure_ascii=False)} if "metadata" in body else {})

    def find_losses(self, situation: Situation) -> tuple[Loss, ...]:
        if not situation.current:
            return ()
        size, changed = at(situation.current, "size"), at(situation.current, "lastModified")
        return (Loss(f"Lets the stored file be overwritten ({size} bytes, of {changed or 'an unknown time'})"),)

    def find_next_step(self, data: Any, situation: Situation) -> str:
        return (
            f"PUT the bytes to the address that {at(data, 'uploadUrl')} keeps, with Content-Type {self.content_type}, "
            "without Authorization. Then vectorize_get_upload_files_from_connector shows the file."
        )


class DeleteFileFromConnector(UploadOperation):
    """Delete an uploaded file for good."""

    http = DELETE(f"{FILES}/{{file_name}}")
    effect = Effect.DESTROY
    output = DeletedFile
    acts_on = _file_of("file_name")
    consequence = (
        "Deletes file {name} of connector {connector_id}. Whether what pipelines made of it is deleted, too, is not "
        "documented. It cannot be undone."
    )
    example = {"connector_id": _EXAMPLE_CONNECTOR, "file_name": "research.pdf"}

    file_name: Annotated[str, Field(min_length=1, description="Name of the file, as the list of files shows it.")]

    def find_problems(self, situation: Situation) -> tuple[Issue, ...]:
        if situation.current == {}:
            wanted = "a name that vectorize_get_upload_files_from_connector shows"
            return (Issue("file_name", "the name of no file of this connector", wanted),)
        return ()


class GetWorkspaces(VectorizeOperation, ListOperation):
    """List the organization's workspaces. Connectors and the pipeline that joins them belong in the same one; without
    workspace_id they are created in the first."""

    http = GET("/org/{organization_id}/workspaces")
    toolset = "vectorize.workspaces"
    output = Workspace
    paging = pages_of("workspaces")
    summary = ("id", "name")
    example = {"limit": 20}


OPERATIONS: Sequence[type[Operation]] = (
    GetUploadFilesFromConnector,
    StartFileUploadToConnector,
    DeleteFileFromConnector,
    GetWorkspaces,
)
