"""Jobs and their log, leases, tombstones, holds, summaries of runs and how often they were changed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "jobs",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("cancelled_by", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("doing", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("runs", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_jobs"),
        sa.UniqueConstraint("key", name="uq_jobs_key"),
    )
    op.create_index("ix_jobs_state_job", "jobs", ["state", "job"])
    op.create_index("ix_jobs_model_job", "jobs", ["model", "job"])
    op.create_table(
        "job_lines",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_lines"),
        sa.ForeignKeyConstraint(["job"], ["jobs.job"], name="fk_job_lines_job_jobs"),
    )
    op.create_index("ix_job_lines_job_id", "job_lines", ["job", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    for table, key in (("tombstones", sa.Column("sha256", sa.String(64))), ("holds", sa.Column("subject", sa.String(128)))):
        op.create_table(
            table,
            key,
            sa.Column("at", sa.Double, nullable=False),
            sa.Column("by", sa.Text, nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.PrimaryKeyConstraint(key.name, name=f"pk_{table}"),
        )
    op.create_table(
        "summaries",
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_summaries"),
        sa.ForeignKeyConstraint(["run"], ["runs.run"], name="fk_summaries_run_runs", ondelete="CASCADE"),
    )
    op.create_table(
        "revisions",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_revisions"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("revisions", "summaries", "holds", "tombstones", "leases", "job_lines", "jobs"):
        op.drop_table(table)
