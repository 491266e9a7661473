"""What lies between an engine and its clients, as a share of the engine's speed."""
