"""The shared HTTP client: one per platform, with its address, credentials, limits and failures."""
