"""The services of the protected auction."""
