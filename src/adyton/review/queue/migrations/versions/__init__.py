"""One module for each version of the tables. A released version never changes."""
