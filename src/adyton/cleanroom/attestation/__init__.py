"""Evidence that a process runs where and as it says: formats, named checks and verdicts per platform."""
