"""The core imports the standard library, attrs and cattrs; nothing that waits, listens or tells the time."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import localful_ws.protocol

PACKAGE = Path(localful_ws.protocol.__file__).parent
LIBRARIES = {"attrs", "cattrs"}
# Of the standard library: what reads a clock, waits, listens, logs, runs something else or is random.
OUTSIDE = {
    "asyncio",
    "concurrent",
    "datetime",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "queue",
    "random",
    "sched",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
INPUT_OUTPUT = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}

# Whatever the core does not need is made impossible to import before the core is.
BLOCKED = """
import json, sys
import attrs, cattrs, cattrs.gen

class OnlyWhatIsAllowed:
    def find_spec(self, name, path=None, target=None):
        own = name == "localful_ws" or name.startswith("localful_ws.protocol")
        if not own and name.partition(".")[0] not in ALLOWED:
            raise ImportError(f"{name} is out of bounds")

ALLOWED = set(json.loads(sys.argv[1]))
for loaded in list(sys.modules):
    if loaded.partition(".")[0] in json.loads(sys.argv[2]):
        del sys.modules[loaded]
sys.meta_path.insert(0, OnlyWhatIsAllowed())

from localful_ws.protocol import *

connection = Connection(Limits(), 0.0)
[verify] = connection.receive_text('{"event":"authenticate","token":"t","vaults":["v"]}', 0.0)
[send] = connection.accept_session(Session("u", "g", 9.0), 0.0, "c")
event = Event(EventName.ITEM_CREATE, "u", "v")
assert connection.wants(event) is Verdict.DELIVER
assert connection.receive_text("{", 0.0)[-1] == Close(CloseCode.BAD_MESSAGE)
print(encode_server_message(send.message), text_frame(encode_event(event, "c")), state_diagram())
"""


def imported_by(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("source", sorted(PACKAGE.rglob("*.py")), ids=lambda source: source.stem)
def test_imports_nothing_of_the_outside(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for module in imported_by(tree):
        top = module.partition(".")[0]
        own = module == "localful_ws.protocol" or module.startswith("localful_ws.protocol.")
        assert own or top in LIBRARIES or top in sys.stdlib_module_names - OUTSIDE, module
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint(INPUT_OUTPUT)


def test_works_where_nothing_of_the_outside_can_be_imported() -> None:
    allowed = sorted((sys.stdlib_module_names - OUTSIDE) | LIBRARIES)
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(allowed), json.dumps(sorted(OUTSIDE))],
        cwd=PACKAGE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    assert ran.stdout.startswith('{"event":"authenticated"')
