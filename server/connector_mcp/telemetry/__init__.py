"""Metrics, spans, and the ids that join log lines to calls."""
