"""JSON whose numbers stay what they are: what has a fraction is a Decimal, in and out.

Amounts of credits travel as JSON numbers; a float in between would make others of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode
"""Whole numbers are int, all others Decimal."""

encode: Final = msgspec.json.Encoder(decimal_format="number").encode
"""A Decimal becomes a number with all of its digits."""
