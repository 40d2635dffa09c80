"""The egress experiment: which bits of a user are worth sending, and what a size of payload costs in quality."""
