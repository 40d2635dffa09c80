"""Compiled loops over `DayArrays`. Each module holds the kernel of one policy; `moves` holds the rules they share."""
