"""Whether an answer is what the OpenAPI document says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from qis.api.contract import document_bytes


@cache
def document() -> dict[str, Any]:
    """The document that is served."""
    found: dict[str, Any] = json.loads(document_bytes())
    return found


def check_answer(event: dict[str, Any], answer: dict[str, Any]) -> None:
    """Fail where status, media type or body are not described for the operation."""
    path, method = event["resource"], event["httpMethod"].lower()
    responses = document()["paths"][path][method]["responses"]
    status = str(answer["statusCode"])
    assert status in responses, f"{method} {path} does not describe {status}: {answer['body']}"
    response = responses[status]
    if "$ref" in response:
        response = document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if not answer["body"]:
        assert "content" not in response
        return
    media = answer["headers"]["Content-Type"].partition(";")[0]
    schema = response["content"][media]["schema"]
    if media.endswith("json"):
        # References in the schema point into the document, so that it is checked as a part of it.
        validator = Draft202012Validator({**schema, "components": document()["components"]})
        errors = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(json.loads(answer["body"]))]
        assert not errors, f"{method} {path} {status}: {errors}"
