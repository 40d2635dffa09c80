"""What every test shares. Timings live in `bench/`: an example may take as long as a busy machine needs."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("adyton", deadline=None)
settings.load_profile("adyton")
