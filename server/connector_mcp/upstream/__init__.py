"""The shared HTTP client of each platform account: address, credentials, rate, retries and errors."""
