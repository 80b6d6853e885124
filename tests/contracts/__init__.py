"""The documents for machines: spec/openapi.json and spec/asyncapi.json; see README.md beside this file."""
