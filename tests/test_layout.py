"""The tests of a line are found from the name of its module, or from the table here.

The tests of ``localful_ws/a/x.py`` are the modules of ``tests/a/`` whose names have the word ``x`` in them:
``test_x.py``, ``test_x_and_more.py``, ``test_a_x.py``. Where there is no such folder they are in the one
above, and there the word ``a`` will do: those of ``settings/kinds.py`` are in ``tests/test_settings.py``. A
module in which no function does anything needs none.

The parts of the package, which are the modules and folders that are directly in it, import each other in one
direction: none needs itself by way of another. So `settings` has neither `engine` nor `server`: they need it.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.spec_document import ROOT

PACKAGE = ROOT / "localful_ws"
TESTS = ROOT / "tests"

ELSEWHERE = {
    "checks/test_here.py": ["checks/keys", "checks/system"],
    "checks/test_public.py": ["checks/probe", "checks/verdicts"],
    "cli/test_cli_check.py": ["checks/finding", "checks/run"],
    "cli/test_cli_conform.py": ["conform/network", "conform/run"],
    "cli/test_cli_group.py": ["cli/addresses"],
    "cli/test_cli_listen.py": ["cli/options"],
    "client/test_client_buffer.py": ["client/inbox"],
    "client/test_client_life.py": ["client/opening"],
    "client/test_client_with_daemon.py": ["client/waking"],
    "client/test_conversation.py": ["client/errors"],
    "client/test_conversation_resume.py": ["client/resuming"],
    "demo/backend/test_backend_auth.py": [
        *("demo/backend/auth_routes", "demo/backend/logins", "demo/backend/passwords", "demo/backend/tokens"),
    ],
    "demo/backend/test_backend_main.py": ["demo/backend/settings"],
    "demo/backend/test_backend_outbox.py": ["demo/backend/publisher"],
    "demo/backend/test_backend_routes.py": [
        *("demo/backend/build", "demo/backend/content", "demo/backend/content_routes"),
        *("demo/backend/database", "demo/backend/errors", "demo/backend/requests", "demo/backend/seed"),
        *("demo/backend/snapshots", "demo/backend/user_routes", "demo/backend/users", "demo/backend/wire"),
    ],
    "demo/test_demo_performance.py": ["demo/daemon", "demo/devices"],
    "demo/test_demo_serving.py": ["cli/demo"],
    "demo/test_demo_site.py": ["demo/contents"],
    "end_to_end/test_daemon_in_process.py": ["engine/build", "server/daemon", "server/run"],
    "engine/redis/test_engine_control.py": ["engine/redis/questions"],
    "engine/redis/test_engine_streams.py": ["engine/redis/lua", "engine/redis/queue"],
    "engine/test_memory.py": ["engine/__init__", "engine/idempotency"],
    "protocol/test_codec.py": ["protocol/errors"],
    "publisher/test_publisher_transcripts.py": ["publisher/errors", "publisher/queue"],
    "scenes/test_playing.py": [
        *("conform/given", "conform/matching", "conform/play", "conform/report", "conform/terms"),
    ],
    "scenes/test_scene_files.py": ["conform/scenes"],
    "scenes/test_scenes_memory.py": ["conform/device", "conform/live"],
    "scenes/test_written.py": ["conform/render"],
    "server/test_console.py": ["server/watching"],
    "server/http/test_app.py": ["server/http/refusals"],
    "server/http/test_users.py": ["server/http/queries"],
    "server/test_device.py": ["server/websocket"],
    "server/test_node_handshake.py": ["server/trio_websocket_pump"],
    "tokens/test_jwks.py": ["tokens/errors"],
    "tokens/test_token_claims.py": ["tokens/static"],
    "tokens/test_token_keys.py": ["tokens/signatures"],
}
"""By the module of tests: the modules that it tests, and whose names don't lead to it."""

LISTED = Counter(module for modules in ELSEWHERE.values() for module in modules)


def modules_that_act() -> list[str]:
    """The modules of the package in which there is something to test, as ``server/node``."""
    return [
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(map(acts, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    ]


def acts(node: ast.AST) -> bool:
    """Whether this is a function with more in it than a docstring and three dots."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not all(
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        for statement in node.body
    )


def found_by_name(module: str) -> list[str]:
    """The modules of tests to which a module's name leads."""
    *packages, name = module.split("/")
    words = {packages[-1] if name == "__init__" else name.strip("_")}
    folder = TESTS.joinpath(*packages)
    while not folder.is_dir():
        words.add(folder.name)
        folder = folder.parent
    return [
        path.name
        for path in sorted(folder.glob("test_*.py"))
        if any(f"_{word}_" in f"{path.stem}_" for word in words)
    ]


MODULES = modules_that_act()


@pytest.mark.parametrize("module", MODULES)
def test_tests_of_a_module_are_found(module: str) -> None:
    found = found_by_name(module)
    assert bool(found) != (module in LISTED), f"either a name leads to its tests, or the table: {found}"


def test_the_table_is_of_modules_and_tests_that_are_there() -> None:
    assert set(LISTED) <= set(MODULES)
    assert [module for module, times in LISTED.items() if times > 1] == []
    assert [path for path in ELSEWHERE if not (TESTS / path).is_file()] == []


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(path: Path) -> Iterator[str]:
    """The parts that a module imports from, wherever in it, and for types only as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (module.split(".")[1] for module in modules if module.startswith(f"{PACKAGE.name}."))


def test_parts_import_each_other_in_one_direction() -> None:
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        graph.setdefault(part_of(path), set()).update(imported_parts(path))
    for part, imported in graph.items():
        imported.discard(part)
    TopologicalSorter(graph).prepare()
