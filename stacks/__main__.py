"""What runs where is in `Pulumi.<stack>.yaml`; how is in `infra`."""

from __future__ import annotations

from pathlib import Path

import pulumi

from infra.config.loader import load
from infra.deploy import deploy
from infra.errors import SlipwayError

try:
    outputs = deploy(load(checkout=Path(__file__).resolve().parents[1]))
except SlipwayError as error:
    # The message says what to do; a traceback of ours would only bury it.
    raise pulumi.RunError(str(error)) from None

for name, value in outputs.items():
    pulumi.export(name, value)
