"""Write spec/openapi.json and spec/asyncapi.json anew: ``python -m tests.contracts``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from contracts.asyncapi import asyncapi_document
from contracts.openapi import openapi_document
from contracts.parts import ASYNCAPI, OPENAPI, written


def main() -> None:
    """Write both."""
    OPENAPI.write_text(written(openapi_document()), encoding="utf-8")
    ASYNCAPI.write_text(written(asyncapi_document()), encoding="utf-8")


if __name__ == "__main__":
    main()
