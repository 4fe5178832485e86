"""What only developers of connector-mcp run. The wheel does not contain it."""
