"""The engines, and the one protocol behind which each of them stands."""
