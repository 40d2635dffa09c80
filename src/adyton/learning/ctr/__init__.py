"""Click-through models whose score splits exactly into a user part, an ad part and a context part."""
