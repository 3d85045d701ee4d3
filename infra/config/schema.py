"""The JSON Schema of a stack file, which editors complete and check it by.

`python -m infra.config.schema` writes `stacks/schema.json`; a test fails when that file is stale.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from infra.config.base import PROJECT
from infra.config.stack import StackConfig

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "stacks" / "schema.json"


@cache
def stack_schema() -> dict[str, Any]:
    """JSON Schema of `StackConfig` in the spelling of the stack file."""
    return StackConfig.model_json_schema(by_alias=True)


def stack_file_schema() -> dict[str, Any]:
    """JSON Schema of a whole `Pulumi.<stack>.yaml`: ours under `config:`, Pulumi's own keys beside it."""
    schema = stack_schema()
    ours = {f"{PROJECT}:{key}": value for key, value in schema["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A stack of Slipway",
        "type": "object",
        "additionalProperties": False,
        "required": ["config"],
        "properties": {
            "encryptionsalt": {"type": "string", "description": "Written by Pulumi: salt of the stack's passphrase."},
            "encryptedkey": {"type": "string", "description": "Written by Pulumi: the stack's data key."},
            "secretsprovider": {"type": "string", "description": "Written by Pulumi: what encrypts the stack."},
            "environment": {"description": "Pulumi ESC environments that the stack imports."},
            "config": {
                "type": "object",
                "properties": ours,
                "required": [f"{PROJECT}:{key}" for key in schema["required"]],
                # Keys of other namespaces belong to providers; a misspelt one of ours does not.
                "patternProperties": {rf"^(?!{PROJECT}:)[^:]+:.+$": {}},
                "additionalProperties": False,
            },
        },
        "$defs": schema["$defs"],
    }


def rendered_schema() -> str:
    """The text of `stacks/schema.json`."""
    return json.dumps(stack_file_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(rendered_schema())
    print(f"wrote {SCHEMA_FILE}")
