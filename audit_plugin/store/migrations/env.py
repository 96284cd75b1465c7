"""Alembic's entry: runs the migrations on the connection that the store hands over."""

from alembic import context

from audit_plugin.store.tables import Base

if hasattr(context, "config"):  # only Alembic sets it up; importing this module does nothing
    context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
