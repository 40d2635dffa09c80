"""The four capabilities composed into one loop."""
