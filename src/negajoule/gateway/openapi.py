"""The OpenAPI document: requests as the checks see them, answers, errors and footprints.

OpenAPI 3.1. The bodies of OpenAI's calls come from the structs that check them; other providers' dialects are
described as far as we rely on them, and by a link to whoever defines them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import msgspec

from negajoule._version import __version__
from negajoule.gateway.adapters.embeddings import EmbeddingsBody
from negajoule.gateway.batches.record import ENDPOINTS, Status
from negajoule.gateway.wire import ChatBody, CompletionBody, FeedbackBody
from negajoule.units import INDICATORS
from negajoule.units.quantity import Basis, Boundary

__all__ = ["document", "whole_document"]

_Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_REQUIRED = {"ChatBody": "messages", "CompletionBody": "prompt"}  # checked beyond the structs
_REQUEST_ID = "req-01a2093fa966b08ea96995bea42a84dc"


@cache
def document() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(whole_document())


def whole_document() -> _Schema:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "negajoule",
            "version": __version__,
            "description": "OpenAI's API, and Anthropic's and Gemini's, with the footprint of every answer.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {}],
        "paths": {**_calls(), **_pages(), **_batches(), **_routing()},
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed once a key exists: negajoule keys create NAME.",
                }
            },
            "schemas": {**_bodies(), **_SCHEMAS},
            "headers": _HEADERS,
            "responses": {
                "Error": {
                    "description": "What went wrong, and what to do.",
                    "content": {"application/json": {"schema": _ref("Error")}},
                },
                "ForeignError": {
                    "description": "What went wrong, in the shape of the client's dialect.",
                    "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
                },
            },
        },
    }


def _calls() -> _Schema:
    anthropic = "https://platform.claude.com/docs/en/api/messages"
    gemini = "https://ai.google.dev/api/generate-content"
    responses = "https://platform.openai.com/docs/api-reference/responses"
    return {
        "/v1/chat/completions": _call("chat", "Answer a conversation", "ChatBody", "ChatAnswer"),
        "/v1/completions": _call("completion", "Continue a text", "CompletionBody", "CompletionAnswer"),
        "/v1/embeddings": _call(
            "embedding", "Embed texts", "EmbeddingsBody", "EmbeddingsAnswer", streams=False
        ),
        "/v1/responses": _call("response", "OpenAI's Responses API", "ForeignBody", "Foreign", responses),
        "/v1/messages": _call("message", "Anthropic's Messages", "ForeignBody", "Foreign", anthropic),
        "/v1/messages/count_tokens": _call(
            "count", "Count a prompt's tokens", "ForeignBody", "Foreign", anthropic, streams=False
        ),
        **{
            f"/{version}/models/{{model}}:{method}": _call(
                f"{method}-{version}",
                f"Gemini's {method}",
                "GeminiBody",
                "Foreign",
                gemini,
                streams=method == "streamGenerateContent",
                parameters=[
                    _in_path("model"),
                    *([_SSE] if method == "streamGenerateContent" else []),
                ],
            )
            for version in ("v1", "v1beta", "v1alpha")
            for method in ("generateContent", "streamGenerateContent")
        },
    }


def _call(
    name: str,
    summary: str,
    body: str,
    answer: str,
    definition: str = "",
    *,
    streams: bool = True,
    parameters: list[_Schema] | None = None,
) -> _Schema:
    content: _Schema = {"application/json": {"schema": _ref(answer)}}
    if streams:
        content["text/event-stream"] = {}  # what an event holds can be said from OpenAPI 3.2 on
    operation: _Schema = {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {
            "200": {
                "description": "The answer; its footprint stands in it and in the header.",
                "headers": {header: {"$ref": f"#/components/headers/{header}"} for header in _HEADERS},
                "content": content,
            },
            "default": {"$ref": f"#/components/responses/{'ForeignError' if definition else 'Error'}"},
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if definition:
        operation["externalDocs"] = {"url": definition}
    return {"post": operation}


def _pages() -> _Schema:
    return {
        "/v1/models": _page("models", "The models that this key may ask", "Models"),
        "/v1/models/{model}": _page("model", "One model", "Model", [_in_path("model")]),
        "/v1beta/models": _page("gemini-models", "The same, as Gemini lists them", "Foreign"),
        "/v1beta/models/{model}": _page(
            "gemini-model", "One of them, as Gemini shows it", "Foreign", [_in_path("model")]
        ),
        "/v1/footprints/{id}": _page(
            "footprint",
            "What a request cost, in full; for who asked, and for admins",
            "FootprintOf",
            [_in_path("id")],
        ),
        "/v1/budgets": _page("budgets", "How the budgets stand that count this key", "Budgets"),
        "/openapi.json": _page("openapi", "This document", "Object"),
        "/healthz": _page("health", "Whether the server is well; details for admins", "Health"),
        "/metrics": _page("metrics", "Counters for Prometheus; needs the scope admin", "", kind="text/plain"),
        "/": _page("home", "The page for people; needs the scope admin", "", kind="text/html"),
    }


def _page(
    name: str,
    summary: str,
    answer: str,
    parameters: list[_Schema] | None = None,
    *,
    kind: str = "application/json",
) -> _Schema:
    schema = _ref(answer) if answer else {"type": "string"}
    operation: _Schema = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Here it is.", "content": {kind: {"schema": schema}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def _batches() -> _Schema:
    """Batches and their files, as ``gateway.batches`` serves them."""
    after = _in_query("after", {"type": "string"})
    one = [_in_path("id")]
    return {
        "/v1/files": {
            **_page(
                "files",
                "The files of batches that this key may see",
                "Files",
                [_in_query("purpose", {"type": "string"}), _in_query("order", {"enum": ["asc", "desc"]}),
                 _in_query("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}), after],
            ),
            "post": _posted(
                "upload",
                "Leave a file with requests, one a line; it is STORED until it is deleted",
                "File",
                {"multipart/form-data": {"schema": _ref("Upload")}},
            ),
        },
        "/v1/files/{id}": {
            **_page("file", "One file", "File", one),
            "delete": {
                **_page("delete-file", "Delete it", "Deleted", one)["get"],
            },
        },
        "/v1/files/{id}/content": _page(
            "file-content", "What stands in it", "", one, kind="application/octet-stream"
        ),
        "/v1/batches": {
            **_page(
                "batches",
                "The batches that this key may see",
                "Batches",
                [_in_query("limit", {"type": "integer", "minimum": 1, "maximum": 100}), after],
            ),
            "post": _posted(
                "batch",
                "Have the requests of a file answered within a window",
                "Batch",
                {"application/json": {"schema": _ref("BatchBody")}},
            ),
        },
        "/v1/batches/{id}": _page("batch-status", "How far it is", "Batch", one),
        "/v1/batches/{id}/cancel": {
            "post": _page("cancel-batch", "Stop it; answers that are there stay", "Batch", one)["get"]
        },
    }  # fmt: skip


def _routing() -> _Schema:
    """What there is beside calls where pools of models answer."""
    return {
        "/v1/route": {
            "post": _posted(
                "route",
                "Which model of a pool would answer a chat, and why; none runs",
                "Decision",
                {"application/json": {"schema": _ref("ChatBody")}},
            )
        },
        "/v1/feedback": {
            "post": _posted(
                "feedback",
                "How good an answer of a pool was, once",
                "Judged",
                {"application/json": {"schema": _ref("FeedbackBody")}},
            )
        },
    }


def _posted(name: str, summary: str, answer: str, content: _Schema) -> _Schema:
    operation: _Schema = _page(name, summary, answer)["get"]
    return {**operation, "requestBody": {"required": True, "content": content}}


def _in_query(name: str, schema: _Schema) -> _Schema:
    return {"name": name, "in": "query", "schema": schema}


def _bodies() -> _Schema:
    _, found = msgspec.json.schema_components(
        (ChatBody, CompletionBody, EmbeddingsBody, FeedbackBody), ref_template=_REFERENCE
    )
    for name, field in _REQUIRED.items():
        found[name]["required"].append(field)
        found[name]["properties"][field].pop("default", None)
    return dict(found)


def _ref(name: str) -> _Schema:
    return {"$ref": _REFERENCE.format(name=name)}


def _in_path(name: str) -> _Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


_SSE: _Schema = {
    "name": "alt",
    "in": "query",
    "required": True,
    "schema": {"const": "sse"},
}


def _list_of(name: str) -> _Schema:
    return _object({"object": {"const": "list"}, "data": {"type": "array", "items": _ref(name)}})


def _object(properties: _Schema, *, optional: tuple[str, ...] = (), **more: Any) -> _Schema:  # noqa: ANN401
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


_COUNT: _Schema = {"type": ["integer", "null"], "minimum": 0}
_TEXT: _Schema = {"type": "string"}
_QUANTITY: _Schema = _object(
    {
        "value": {"type": "number"},
        "low": {"type": "number"},
        "high": {"type": "number"},
        "unit": _TEXT,
        "basis": {"enum": list(get_args(Basis))},
        "boundary": {"enum": list(get_args(Boundary))},
    }
)
_USAGE: _Schema = _object(
    {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
    optional=("prompt_tokens", "completion_tokens", "total_tokens"),
)


def _footprint(factors: _Schema, **more: _Schema) -> _Schema:
    return _object(
        {
            "schema": {"const": "negajoule.footprint/1"},
            "boundary": {"enum": list(get_args(Boundary))},
            **{name: {"anyOf": [_ref("Quantity"), {"type": "null"}]} for name in INDICATORS},
            "widest": {"type": ["string", "null"]},
            "factors": factors,
            "notes": {"type": "array", "items": _TEXT},
            **more,
        },
        description="What is unknown is null, never 0. Each figure has a range, a basis and a unit.",
    )


_ANSWER: _Schema = {
    "id": _TEXT,
    "object": _TEXT,
    "created": {"type": "integer"},
    "model": _TEXT,
    "choices": {"type": "array", "items": {"type": "object"}},
    "usage": _ref("Usage"),
    "footprint": _ref("Footprint"),
}
_SCHEMAS: _Schema = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string", "description": "Explained by: negajoule explain CODE."},
                }
            )
        }
    ),
    "Usage": _USAGE,
    "Quantity": _QUANTITY,
    "Footprint": _footprint(
        {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Each factor's key in the catalogue.",
        },
        request_id=_TEXT,
    ),
    "FullFootprint": _footprint(
        {"type": "array", "items": {"type": "object"}},
        parts={"type": "array", "items": {"allOf": [_ref("Quantity"), {"type": "object"}]}},
    ),
    "FootprintOf": _object(
        {
            "id": _TEXT,
            "model": _TEXT,
            "status": {"enum": ["ok", "failed", "cancelled"]},
            "tokens_in": _COUNT,
            "tokens_out": _COUNT,
            "cpu_seconds": {"type": ["number", "null"]},
            "footprint": _ref("FullFootprint"),
        }
    ),
    "ChatAnswer": _object(_ANSWER, optional=("usage",)),
    "CompletionAnswer": _object(_ANSWER, optional=("usage",)),
    "EmbeddingsAnswer": _object(
        {
            "object": _TEXT,
            "model": _TEXT,
            "data": {"type": "array", "items": {"type": "object"}},
            "usage": _ref("Usage"),
            "footprint": _ref("Footprint"),
        },
        optional=("usage", "model"),
    ),
    "ForeignBody": _object({"model": {"type": "string", "minLength": 1, "maxLength": 256}}),
    "GeminiBody": _object({"contents": {"type": "array", "items": {"type": "object"}}}),
    "Foreign": {"type": "object"},
    "Object": {"type": "object"},
    "Model": _object({"id": _TEXT, "object": _TEXT}, optional=("object",)),
    "Models": _list_of("Model"),
    "Budgets": _list_of("Object"),
    "Upload": _object(
        {
            "purpose": {"const": "batch"},
            "file": {"type": "string", "format": "binary", "description": "JSON objects, one a line."},
        }
    ),
    "File": _object(
        {
            "id": _TEXT,
            "object": {"const": "file"},
            "bytes": {"type": "integer"},
            "created_at": {"type": "integer"},
            "expires_at": {"type": "integer"},
            "filename": _TEXT,
            "purpose": {"enum": ["batch", "batch_output"]},
            "status": {"const": "processed"},
        }
    ),
    "Files": _list_of("File"),
    "Deleted": _object({"id": _TEXT, "object": {"const": "file"}, "deleted": {"const": True}}),
    "BatchBody": _object(
        {
            "input_file_id": {"type": "string", "minLength": 1, "maxLength": 128},
            "endpoint": {"enum": list(ENDPOINTS)},
            "completion_window": {
                "type": "string",
                "pattern": "^[0-9]{1,4}(min|h|d)$",
                "description": "24h, 90min, 7d: from a minute to a week.",
            },
            "metadata": {
                "type": ["object", "null"],
                "maxProperties": 16,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": {"type": "string", "maxLength": 512},
            },
        },
        optional=("metadata",),
    ),
    "Batch": _object(
        {
            "id": _TEXT,
            "object": {"const": "batch"},
            "endpoint": {"enum": list(ENDPOINTS)},
            "input_file_id": _TEXT,
            "completion_window": _TEXT,
            "status": {"enum": list(get_args(Status))},
            "created_at": {"type": "integer"},
            "expires_at": {"type": "integer"},
            "output_file_id": {"type": ["string", "null"]},
            "error_file_id": {"type": ["string", "null"]},
            "request_counts": _object({"total": _COUNT, "completed": _COUNT, "failed": _COUNT}),
        }
    ),
    "Batches": _list_of("Batch"),
    "Decision": _object(
        {
            "schema": {"const": "negajoule.route/1"},
            "pool": {"type": "string"},
            "wish": {"enum": ["auto", "frugal", "best"]},
            "model": {"type": "string"},
            "reason": {"type": "string"},
            "candidates": {"type": "array", "items": {"type": "object"}},
            "prices": {"type": ["object", "null"]},
        }
    ),
    "Judged": _object(
        {
            "schema": {"const": "negajoule.feedback/1"},
            "request_id": {"type": "string"},
            "learned": {"type": "boolean"},
        }
    ),
    "Health": _object(
        {"schema": {"const": "negajoule.health/1"}, "status": {"enum": ["ok", "ledger behind"]}}
    ),
}


def _header(description: str, example: str) -> _Schema:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_HEADERS: _Schema = {
    "x-request-id": _header("The client's own id, if it sent a sound one, else ours.", "job-7"),
    "x-negajoule-request-id": _header("Our id, also of the row in the ledger.", _REQUEST_ID),
    "x-negajoule-footprint": _header("Where the footprint stands in full.", f"/v1/footprints/{_REQUEST_ID}"),
    "x-negajoule-zone": _header("Where the electricity was used.", "FRA"),
    "x-negajoule-energy-j": _header("IT energy [J], where it is known before the answer ends.", "3.8"),
    "x-negajoule-energy-j-range": _header("Its range [J].", "1.8-17"),
    "x-negajoule-basis": _header("How it came about.", "modelled"),
    "x-negajoule-lost": _header(
        "Fields of the request that the model's server has no word for.", "logit_bias"
    ),
    "x-negajoule-carbon-g": _header("Location-based gCO2e.", "0.00079"),
}
