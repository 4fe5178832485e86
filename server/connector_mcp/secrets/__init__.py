"""Secrets by name: `secret://NAME`, the places where the values are, and where each may be used."""
