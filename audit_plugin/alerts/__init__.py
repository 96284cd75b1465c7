"""Alert rules, generated from the metric table."""
