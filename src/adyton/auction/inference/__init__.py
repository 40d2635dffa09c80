"""Models for bidding scripts, loaded and run in a process of their own behind one JSON contract."""
