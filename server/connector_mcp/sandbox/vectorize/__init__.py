"""The emulated Vectorize."""
