"""Runs, findings, breaches, scores and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_EVENT_GUARD = "CREATE TRIGGER events_no_{verb} BEFORE {verb} ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "runs",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("finished", sa.Double, nullable=False),
        sa.Column("audit", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("bank_digest", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("policy_digest", sa.Text, nullable=False),
        sa.Column("plugin_version", sa.Text, nullable=False),
        sa.Column("queries", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_runs"),
    )
    op.create_index("ix_runs_model_label_run", "runs", ["model", "label", "run"])
    op.create_table(
        "findings",
        sa.Column("finding", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("concept", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("first_run", sa.String(64), nullable=False),
        sa.Column("last_run", sa.String(64), nullable=False),
        sa.Column("resolved", sa.Double),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("acknowledged_until", sa.Double),
        sa.Column("acknowledged_reason", sa.Text),
        sa.PrimaryKeyConstraint("finding", name="pk_findings"),
    )
    op.create_index("ix_findings_model_label", "findings", ["model", "label"])
    op.create_table(
        "breaches",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("finding", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("run", "finding", name="pk_breaches"),
        sa.ForeignKeyConstraint(["run"], ["runs.run"], name="fk_breaches_run_runs"),
        sa.ForeignKeyConstraint(["finding"], ["findings.finding"], name="fk_breaches_finding_findings"),
    )
    op.create_table(
        "scores",
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("target", "sha256", name="pk_scores"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    if op.get_context().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(_EVENT_GUARD.format(verb=verb))


def downgrade() -> None:
    """Drop everything."""
    for table in ("events", "scores", "breaches", "findings", "runs"):
        op.drop_table(table)
