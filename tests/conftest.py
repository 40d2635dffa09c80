"""What every test shares. Timings live in `bench/`: an example may take as long as a busy machine needs.

Generated examples repeat themselves from run to run: a test that fails has found a change.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "adyton", deadline=None, derandomize=True, suppress_health_check=(HealthCheck.too_slow,), print_blob=True
)
settings.load_profile("adyton")
