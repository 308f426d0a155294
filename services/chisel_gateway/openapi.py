"""The OpenAPI 3.1 document, printed from the table of routes and the structs of the contract."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from chisel_gateway.routes import Route
from chisel_shared.runtime.http import ErrorReply

_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"


def document(routes: Sequence[Route], *, version: str) -> bytes:
    """The document as JSON."""
    kinds = {kind for route in routes for kind in (route.body, route.reply) if isinstance(kind, type)}
    ordered = sorted({*kinds, ErrorReply}, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    of_kind = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in (one for one in routes if not one.page):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of_kind)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Chisel",
                "version": version,
                "description": "Run a Python script on somebody's GPUs as if it ran here.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"key": []}],
        }
    )


def _operation(route: Route, of_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _PARAMETER.findall(route.path)
            ),
            *(
                {
                    "name": parameter.name,
                    "in": parameter.place,
                    "required": parameter.required,
                    "description": parameter.description,
                    "schema": parameter.schema,
                }
                for parameter in route.parameters
            ),
        ],
        "responses": {
            str(route.status): {"description": route.summary, **_content(route.reply, of_kind)},
            "default": {"description": "What went wrong.", **_content(ErrorReply, of_kind)},
        },
    }
    if route.action is None:
        operation["security"] = []
    else:
        operation["description"] = f"Needs `{route.action}`."
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            **_content(route.body, of_kind),
        }
    return operation


def _content(kind: type | str | None, of_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    match kind:
        case None:
            return {}
        case str():
            schema: dict[str, Any] = (
                {} if kind == "application/json" else {"type": "string", "format": "binary"}
            )
            return {"content": {kind: {"schema": schema}}}
        case _:
            return {"content": {"application/json": {"schema": of_kind[kind]}}}
