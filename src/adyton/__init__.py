"""Adyton: private advertising end to end. The packages are listed in ARCHITECTURE.md."""

__version__ = "0.1.0"
