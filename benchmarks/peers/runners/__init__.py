"""One program per engine, each run by its own environment's Python, with one protocol.

They import nothing of this repository but their neighbours; `ours` alone imports inferd.
"""
