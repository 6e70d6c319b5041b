"""The parts of the OpenAPI description that types alone do not give.

Bodies are read by hand, strictly and in bounded memory, so their schemas are named here and added
to the description's components.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from producer.http.answers import ErrorAnswer, RunRequest, ShareChange
from producer.http.bodies import JSON, NDJSON
from schemas.jobs import CritiqueJob, ImproveJob, LabelJob, ReviseJob
from schemas.messages import BudgetChange

Responses = dict[int | str, dict[str, Any]]

_REF = "#/components/schemas/"
_JOBS: dict[str, type[BaseModel]] = {
    "critique": CritiqueJob,
    "revise": ReviseJob,
    "label": LabelJob,
    "improve": ImproveJob,
}
_MEANING = {
    401: "No API key, or one that is unknown or revoked.",
    403: "A request that a foreign web page may have caused, on a server without API keys.",
    404: "No run or job of that name or id.",
    409: "It does not fit what is there: another configuration, a cancelled run, or an "
    "Idempotency-Key that was used for another request or is in use.",
    413: "The body is over its limit; the message says what of it was taken.",
    415: "A body of another type.",
    422: "The request does not fit its contract; the message names the field.",
    429: "The key's quota or the ledger's backlog is full; the message says what was taken.",
    503: "The ledger is out of reach; the message says what was taken.",
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds until the request may fit.",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {"schema": {"type": "string", "const": "Bearer"}, "required": True}
}
#: Of an answer to a request that may carry an Idempotency-Key.
REPLAYED = {
    "Idempotency-Replayed": {
        "description": "The request was answered before; this is that answer.",
        "schema": {"type": "string", "const": "true"},
    }
}
_HEADERS = {401: _CHALLENGE, 429: _RETRY_AFTER, 503: _RETRY_AFTER}


def problems(*statuses: int) -> Responses:
    """The refusals that an operation can answer with."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": _MEANING[status],
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in statuses
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REF + name}


_ANY_JOB = {
    "oneOf": [_reference(model.__name__) for model in _JOBS.values()],
    "discriminator": {
        "propertyName": "kind",
        "mapping": {kind: _REF + model.__name__ for kind, model in _JOBS.items()},
    },
}
JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {**_ANY_JOB, "required": ["kind"]},
                "examples": {
                    "improve": {"value": {"kind": "improve", "prompt": "Why is the sky blue?"}}
                },
            },
            NDJSON: {
                # No type: to a stream every text is fit, and a bad line refuses itself only.
                "schema": {"description": "One job as JSON a line; without `kind` an improve job."},
            },
        },
    }
}
_RUN_EXAMPLE = {
    "name": "my-run",
    "config": {
        "models": {"small": {"engine": "scripted", "model": "scripted"}},
        "roles": {"policy": "small", "critic": "small", "judge": "small"},
    },
}
_READ_BY_HAND: list[type[BaseModel]] = [*_JOBS.values(), RunRequest, ShareChange, BudgetChange]


def links(**targets: dict[str, str]) -> dict[str, Any]:
    """Operations that go on with parts of an answer: name, and its parameters' sources."""
    return {
        "links": {
            operation: {"operationId": operation, "parameters": parameters}
            for operation, parameters in targets.items()
        }
    }


def json_body(model: type[BaseModel], example: Any = None) -> dict[str, Any]:
    """A JSON body that is read by hand; its model is among ``_READ_BY_HAND``."""
    content: dict[str, Any] = {"schema": _reference(model.__name__)}
    if example is not None:
        content["examples"] = {"short": {"value": example}}
    return {"requestBody": {"required": True, "content": {JSON: content}}}


RUN_BODY = json_body(RunRequest, _RUN_EXAMPLE)


def describe_app(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description of an app, its bodies included."""
    if app.openapi_schema is None:
        description = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = description["components"]["schemas"]
        bodies = _body_schemas(_READ_BY_HAND)
        for name, schema in bodies.items():
            schemas.setdefault(name, schema)
        app.openapi_schema = description
    return app.openapi_schema


def _body_schemas(models: list[type[BaseModel]]) -> dict[str, Any]:
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (model, "validation") for model in models
    ]
    _, whole = models_json_schema(wanted, ref_template=_REF + "{model}")
    found: dict[str, Any] = whole["$defs"]
    return found
