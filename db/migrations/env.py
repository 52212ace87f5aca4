"""Run migrations on the connection of ``db.schema.migrate``, one transaction a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from db.base import SCHEMA, Base
from db.schema.tables import Release  # noqa: F401 - fills the metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection

connection: Connection = context.config.attributes["connection"]

context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
