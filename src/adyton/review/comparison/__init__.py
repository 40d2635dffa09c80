"""Many days, many allocators: what differs, by how much, and how sure that is."""
