"""Benchmarks: how fast a server answers over HTTP, how fast an engine runs without, how soon a
daemon is ready. A client: nothing of it runs inside the daemon."""
