"""Policy thresholds turn estimates into findings with a stable identity."""
