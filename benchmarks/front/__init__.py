"""The front: streamed tokens per second of the daemon's processor time."""
