"""The emulated ConductorOne."""
