"""The database's layout: every table of records in one relation, and which layout it is."""

from __future__ import annotations

import sqlalchemy as sql

VERSION = 1
"""Of the layout. One that is newer than ours is refused: an older daemon would damage it."""

metadata = sql.MetaData()

records = sql.Table(
    "inferd_records",
    metadata,
    sql.Column("table_name", sql.String(64), primary_key=True),
    sql.Column("key", sql.String(512), primary_key=True),
    sql.Column("value", sql.Text, nullable=False),  # JSON
)

layout = sql.Table("inferd_layout", metadata, sql.Column("version", sql.Integer, nullable=False))
