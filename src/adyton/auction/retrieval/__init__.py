"""The ad store that retrieval scripts read: records, set queries, embedding search."""
