"""Alembic migrations, run by ``Store.open(url, migrate=True)``."""
