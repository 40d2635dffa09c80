"""Which ads may run, in the order that loses least value, by the reviewer who fits best."""
