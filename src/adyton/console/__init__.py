"""Web pages and JSON API over the same functions."""
