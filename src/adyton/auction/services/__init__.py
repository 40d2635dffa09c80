"""Services around the rules: sockets, scripts, deadlines, logs and metrics."""
