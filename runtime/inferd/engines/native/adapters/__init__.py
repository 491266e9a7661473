"""LoRA adapters in the native engine: read, checked, kept in host memory and put into slots.

Read `base` and `sites` (what can be adapted), `settings` and `reading` (from a folder to factors),
`table` (generations: what is in host memory, who uses it, what became of loads), `slots` (what is
on the device).
"""
