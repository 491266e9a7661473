"""HTTP: one file per API; each only parses and frames."""
