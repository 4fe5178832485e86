"""What can be seen from outside: metrics, spans, and the ids that join log lines to calls."""
