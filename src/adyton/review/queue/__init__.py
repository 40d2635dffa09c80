"""The live review queue: rules as pure functions, storage with SQLAlchemy, and the functions that join them."""
