"""Run by Alembic: migrates over the connection that `services.sinks.database` gives, in its transaction."""

from __future__ import annotations

from alembic import context

from services.sinks.database import MIGRATIONS_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=MIGRATIONS_TABLE)
with context.begin_transaction():
    context.run_migrations()
