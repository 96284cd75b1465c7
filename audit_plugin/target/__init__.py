"""The audited server, asked as a read-only client."""
