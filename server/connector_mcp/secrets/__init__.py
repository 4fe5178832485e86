"""Secrets by name: `secret://NAME`, the sources of their values, and the limits on their use."""
