"""Untrusted JavaScript in V8, in processes of its own."""
