"""spec/openapi.json against what generates it, the standard and the code."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from localful_ws.publishing import PublishLimits
from localful_ws.server.console.overview import build_overview, name_engine
from localful_ws.server.console.pages import console_pages
from localful_ws.server.console.routes import Console, ConsoleNode
from localful_ws.server.http.app import InternalApp, NodeControl, build_app
from localful_ws.server.survey.questions import Survey
from localful_ws.web.files import SHARED, page_routes
from tests.contracts.openapi import OPERATIONS, openapi_document
from tests.contracts.parts import OPENAPI, errors_in, written
from tests.spec_document import ROOT
from tests.world import make_settings

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text(encoding="utf-8"))
PACKAGE = ROOT / "localful_ws"
# What answers handshakes, at the other port.
HANDSHAKE = (PACKAGE / "protocol" / "handshake.py", PACKAGE / "server" / "node.py")
# What is no handshake is answered there as well, in words that the specification leaves open.
MALFORMED = PACKAGE / "server" / "upgrade.py"
SERVER = tuple(
    module for folder in ("", "console", "http") for module in (PACKAGE / "server" / folder).glob("*.py")
)
INTERNAL = (
    *PACKAGE.glob("publishing*.py"),
    *(module for module in SERVER if module not in (*HANDSHAKE, MALFORMED)),
)
# Files that are served as they are.
PAGES = frozenset(
    route.path for route in (*page_routes(SHARED), *console_pages()) if isinstance(route, Route)
)


def make_app() -> InternalApp:
    node = SimpleNamespace(watching=None)
    survey = cast("Survey", None)
    return build_app(
        cast("NodeControl", node),
        console=Console(cast("ConsoleNode", node), make_settings(), survey),
        publisher_key="k" * 16,
        limits=PublishLimits(),
        body_budget=0,
        survey=survey,
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
                case [str(identifier), *_] if ast.unparse(node.func).endswith("unavailable_answer"):
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
    app = make_app()
    routes = {(path, "POST") for path in app.publishing} | {
        (route.path.replace(":any", ""), method)
        for route in app.others.routes
        if isinstance(route, Route) and route.path not in PAGES
        # The console's API answers 405 itself.
        for method in (route.methods or {"GET"})
    }
    documented = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    # Starlette answers HEAD wherever it answers GET.
    assert routes - {(path, "HEAD") for path, _ in routes} == documented
    assert all(isinstance(route, Route) for route in app.others.routes)
    assert {(operation.path, operation.method.upper()) for operation in OPERATIONS} == documented


def test_the_errors_are_those_of_the_code() -> None:
    found = set(errors_of_the_code(*INTERNAL))
    assert (503, "draining") in found, "the code is read"
    assert set(errors_of_the_document()) == found


def test_the_overview_has_the_keys_of_the_document() -> None:
    overview = build_overview([], [], name_engine("memory"), now=0.0, unavailable=None)
    described = DOCUMENT["components"]["schemas"]["consoleOverview"]["properties"]
    assert set(described) == set(overview)
    for key, value in overview.items():
        if isinstance(value, dict) and "properties" in described[key]:
            assert set(described[key]["properties"]) == set(value)


def test_the_refusals_of_handshakes_are_those_of_the_code() -> None:
    # Those of a token are looked up by the close code that they resemble.
    of_tokens = {(401, "unauthorized"), (403, "forbidden"), (429, "too-many"), (503, "try-again-later")}
    malformed = {(400, "bad-request")}
    assert set(errors_in("Refused handshakes")) == set(errors_of_the_code(*HANDSHAKE)) - malformed | of_tokens


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_only_what_takes_the_key_says_so(operation: Any) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method]
    assert described["security"] == ([{"publisherKey": []}] if "401" in described["responses"] else [])
