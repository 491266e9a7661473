"""Each operation against its reference and torch, beside what this machine can do."""
