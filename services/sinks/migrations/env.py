"""Run by Alembic: migrates over the connection that `services.sinks.database` gives, in its transaction."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="arouter_migrations")
with context.begin_transaction():
    context.run_migrations()
