"""The engine over the sandbox, as the tests of the engine have it."""

from tests.engine.conftest import bench, clock, database, made

__all__ = ["bench", "clock", "database", "made"]
