"""Write spec/openapi.json and spec/asyncapi.json anew: ``python -m tests.contracts``."""

from tests.contracts.asyncapi import asyncapi_document
from tests.contracts.openapi import openapi_document
from tests.contracts.parts import ASYNCAPI, OPENAPI, written


def main() -> None:
    """Write both."""
    OPENAPI.write_text(written(openapi_document()), encoding="utf-8")
    ASYNCAPI.write_text(written(asyncapi_document()), encoding="utf-8")


if __name__ == "__main__":
    main()
