"""An audit log over each of the databases."""

from tests.state.conftest import clock, database, open_database

__all__ = ["clock", "database", "open_database"]
