"""inferd: a daemon that turns one machine into an inference cloud."""

__version__ = "0.1.0"
