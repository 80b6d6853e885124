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


AN_ID: Json = {"type": "string", "minLength": 1, "maxLength": 128}


def query_parameter(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """A parameter in the query, as OpenAPI writes it."""
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
    }


def number_parameter(name: str, description: str, at_least: int, at_most: int, default: int) -> Json:
    """One that is a whole number."""
    schema = {"type": "integer", "minimum": at_least, "maximum": at_most, "default": default}
    return query_parameter(name, schema, description)
