"""CTR models, synthesizers and what measures them."""
