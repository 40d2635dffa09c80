"""The self-hosted key service: rotation, the public list, and private keys for attested services only."""
