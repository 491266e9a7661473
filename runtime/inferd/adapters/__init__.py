"""Adapters: names that point to immutable generations, and requests that pin them.

Read in this order: `records` (what is stored and shown), `moves` (what becomes of a record),
`library` (folders by content), `source` (where they come from), `holdings` (what an engine holds),
`entry` (one name and its leases), `lookup` and `table` (all names), `shadow` (comparing a
candidate).
"""
