"""Prometheus metrics from the last committed runs."""
