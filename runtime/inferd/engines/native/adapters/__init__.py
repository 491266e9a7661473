"""LoRA adapters in the native engine: read, checked, kept in host memory and put into slots.

Read `sites` (what can be adapted), `settings` and `reading` (from a folder to factors), `shelf`
(what is in host memory), `table` (generations, who uses them, what became of loads), `slots` (what
is on the device).
"""
