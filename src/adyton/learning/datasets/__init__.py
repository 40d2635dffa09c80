"""Readers of real data: what ships with the package, the DIGIX challenge's files, and any table with a schema."""
