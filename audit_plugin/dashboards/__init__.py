"""Grafana dashboards, generated from the table of metric names and the catalogue of alerts."""
