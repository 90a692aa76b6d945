"""An OpenAPI document as a contract: generate cases from its schemas, and validate answers against them.

It supports the part of JSON Schema that the documents in this folder use; other keywords are errors, never ignored.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parent
GENERATED_KEYWORDS = {
    *("$ref", "type", "enum", "anyOf", "properties", "required", "items", "additionalProperties"),
    *("minimum", "maximum", "description"),
}
Schema = dict[str, Any]
Strategy = st.SearchStrategy[Any]

TEXT = st.text(max_size=8)
SCALARS: dict[str, Strategy] = {
    "string": TEXT,
    "number": st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}


class Contract:
    """A contract, by its file's name."""

    def __init__(self, name: str) -> None:
        self.document: Schema = json.loads((FOLDER / name).read_text(encoding="utf-8"))
        self._references: dict[str, Strategy] = {}

    def operations(self) -> list[tuple[str, str]]:
        """Return method and path of each operation."""
        return [(method.upper(), path) for path, methods in self.document["paths"].items() for method in methods]

    def bodies(self, method: str, path: str) -> Strategy:
        """Return a strategy for the bodies that the operation accepts."""
        body = self._resolved(self.document["paths"][path][method.lower()]["requestBody"])
        return self.values(body["content"]["application/json"]["schema"])

    def values(self, schema: Schema) -> Strategy:
        """Return a strategy for the values that a schema allows, with and without optional members."""
        unknown = set(schema) - GENERATED_KEYWORDS
        if unknown:
            raise NotImplementedError(f"{unknown} in {schema}")
        if "$ref" in schema:
            return self._referenced(schema["$ref"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "anyOf" in schema:
            return st.one_of([self.values(alternative) for alternative in schema["anyOf"]])
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        return st.one_of([self._of_type(kind, schema) for kind in types])

    def check(self, method: str, path: str, status: int, answer: object) -> None:
        """Check an answer's JSON against the contract for its status.

        Raises:
            jsonschema.ValidationError: it does not match.
        """
        responses = self.document["paths"][path][method.lower()]["responses"]
        response = self._resolved(responses.get(str(status), responses["default"]))
        schema = response["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})
        validator.validate(answer)

    def _of_type(self, kind: str, schema: Schema) -> Strategy:
        if kind == "object":
            return self._objects(schema)
        if kind == "array":
            return st.lists(self.values(schema["items"]), max_size=4)
        if kind == "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        return SCALARS[kind]

    def _objects(self, schema: Schema) -> Strategy:
        properties = schema.get("properties", {})
        if not properties:
            return st.dictionaries(TEXT, self.values(schema["additionalProperties"]), max_size=3)
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: self.values(properties[name]) for name in required},
            optional={name: self.values(part) for name, part in properties.items() if name not in required},
        )

    def _referenced(self, reference: str) -> Strategy:
        if reference not in self._references:
            # Deferred, since a schema may contain itself.
            self._references[reference] = st.deferred(lambda: self.values(self._resolved({"$ref": reference})))
        return self._references[reference]

    def _resolved(self, part: Schema) -> Schema:
        while "$ref" in part:
            found = self.document
            for key in part["$ref"].removeprefix("#/").split("/"):
                found = found[key]
            part = found
        return part
