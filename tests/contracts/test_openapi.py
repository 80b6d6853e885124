"""spec/openapi.json against what generates it, the standard and the code."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from spec_document import ROOT
from starlette.applications import Starlette
from starlette.routing import Route

from contracts.openapi import OPERATIONS, openapi_document
from contracts.parts import OPENAPI, errors_in, written
from localful_ws.metrics import Metrics
from localful_ws.publishing import PublishLimits
from localful_ws.server.internal import NodeControl, build_app

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text(encoding="utf-8"))
PACKAGE = ROOT / "localful_ws"
# What answers handshakes, at the other port.
HANDSHAKE = (
    PACKAGE / "protocol" / "handshake.py",
    PACKAGE / "server" / "node.py",
    PACKAGE / "server" / "transport" / "base.py",
)
INTERNAL = (PACKAGE / "publishing.py", *sorted(set((PACKAGE / "server").glob("*.py")) - set(HANDSHAKE)))
# Files that are served as they are.
PAGES: frozenset[str] = frozenset()


def make_app() -> Starlette:
    return build_app(
        cast("NodeControl", None),
        publisher_key="k" * 16,
        limits=PublishLimits(),
        metrics=Metrics(),
        now=lambda: 0.0,
        revocation_seconds=1.0,
    )


def errors_of_the_code(*modules: Path) -> Iterator[tuple[int, str]]:
    """Every status with its identifier: calls that begin with both, or with the identifier for 503."""
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            match [
                argument.value if isinstance(argument, ast.Constant) else None for argument in node.args[:2]
            ]:
                case [int(status), str(identifier)] if 400 <= status < 600:
                    yield status, identifier
                case [str(identifier), *_] if ast.unparse(node.func).endswith("unavailable"):
                    yield 503, identifier


def errors_of_the_document() -> Iterator[tuple[int, str]]:
    responses = list(DOCUMENT["components"]["responses"].values())
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            responses += operation["responses"].values()
    for response in responses:
        for media in response["content"].values():
            for part in media["schema"].get("allOf", ()):
                if "properties" in part:
                    for identifier in part["properties"]["identifier"]["enum"]:
                        yield part["properties"]["statusCode"]["const"], identifier


def test_the_file_is_what_is_generated() -> None:
    assert OPENAPI.read_text(encoding="utf-8") == written(openapi_document()), "run python -m tests.contracts"


def test_it_is_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_routes_are_those_of_the_app() -> None:
    routes = {
        (route.path, method)
        for route in make_app().routes
        if isinstance(route, Route) and route.path not in PAGES
        for method in (route.methods or ())
    }
    documented = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    # Starlette answers HEAD wherever it answers GET.
    assert routes - {(path, "HEAD") for path, _ in routes} == documented
    assert all(isinstance(route, Route) for route in make_app().routes)
    assert {(operation.path, operation.method.upper()) for operation in OPERATIONS} == documented


def test_the_errors_are_those_of_the_code() -> None:
    found = set(errors_of_the_code(*INTERNAL))
    assert (503, "draining") in found, "the code is read"
    assert set(errors_of_the_document()) == found


def test_the_refusals_of_handshakes_are_those_of_the_code() -> None:
    # Those of a token are looked up by the close code that they resemble.
    of_tokens = {(401, "unauthorized"), (403, "forbidden"), (429, "too-many"), (503, "try-again-later")}
    assert set(errors_in("Refused handshakes")) == set(errors_of_the_code(*HANDSHAKE)) | of_tokens


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_only_what_takes_the_key_says_so(operation: Any) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method]
    assert described["security"] == ([{"publisherKey": []}] if "401" in described["responses"] else [])
