"""The device's half of the protected auction."""
