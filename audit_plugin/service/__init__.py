"""The long-running sidecar: metrics, health, runs on an interval."""
