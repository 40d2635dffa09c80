"""How a buyer front end answers chaff (protected-auction §7.5): late and long like a real answer, and empty."""

from __future__ import annotations

import numpy as np

MIN_DELAY_MS = 25
MAX_DELAY_MS = 380
MIN_RESPONSE_BYTES = 1_000
MAX_RESPONSE_BYTES = 10_500


def chaff_delay_ms(generator: np.random.Generator) -> float:
    """How long to wait before the answer: uniform in 25...380 ms."""
    return float(generator.uniform(MIN_DELAY_MS, MAX_DELAY_MS))


def chaff_response_size(generator: np.random.Generator) -> int:
    """Bytes of the padded frame of the answer: uniform in 1,000...10,500."""
    return int(generator.integers(MIN_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1))
