"""Asks of an answer whether spec/openapi.json has it."""

import json
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from tests.contracts.parts import OPENAPI, Json

_DOCUMENT: Json = json.loads(OPENAPI.read_text(encoding="utf-8"))


def assert_conforms(answer: httpx.Response) -> None:
    """Fail if the document doesn't have this answer to this request."""
    method, path = answer.request.method.lower(), answer.request.url.path
    described = _described(method, path, answer)
    for name, header in described.get("headers", {}).items():
        if header.get("required"):
            assert name in answer.headers
    if method == "head":
        return
    content = described["content"]
    assert answer.headers["content-type"] in content
    schema = content[answer.headers["content-type"]]["schema"]
    if answer.headers["content-type"] == "application/json":
        # A reference begins at the root of the document.
        whole: Any = {**schema, "components": _DOCUMENT["components"]}
        Draft202012Validator(whole).validate(answer.json())


def _described(method: str, path: str, answer: httpx.Response) -> Json:
    methods = _DOCUMENT["paths"].get(path)
    responses: Json = _DOCUMENT["components"]["responses"]
    if answer.status_code == 421:
        return dict(responses["hostNotAllowed"])
    if methods is None:
        assert answer.status_code == 404
        return dict(responses["notFound"])
    if answer.status_code == 405:
        assert method not in methods
        return dict(responses["methodNotAllowed"])
    # Most that answer GET answer HEAD.
    operation = methods["get" if method == "head" else method]
    assert str(answer.status_code) in operation["responses"], f"{method} {path}: {answer.status_code}"
    return dict(operation["responses"][str(answer.status_code)])
