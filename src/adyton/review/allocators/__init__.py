"""One module per allocation policy; `registry` finds them by name."""
