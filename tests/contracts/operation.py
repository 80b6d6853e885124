"""What spec/openapi.json says of an operation, before it is written down."""

from attrs import Factory, frozen

from tests.contracts.parts import Json


@frozen
class Operation:
    """One method of one path.

    Attributes:
        method: In lower case, as OpenAPI writes it.
        path: The path.
        name: The operation's id.
        summary: One line.
        status: Of the answer if all is well.
        answer: The media types and schemas of that answer, or the label of a schema in spec/schemas.
        request: The label of the body's schema in spec/schemas, if there is a body.
        errors: The identifiers of what may be wrong, beside those that any request can be answered with.
        keyed: Whether it takes the publisher key.
        description: More, in Markdown.
        parameters: As OpenAPI writes them.
    """

    method: str
    path: str
    name: str
    summary: str
    status: int
    answer: str | Json
    request: str | None = None
    errors: tuple[str, ...] = ()
    keyed: bool = False
    description: str = ""
    parameters: tuple[Json, ...] = Factory(tuple)
