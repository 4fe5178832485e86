"""The engine over the sandbox, as the tests of the engine have it, and a manifest that was applied there."""

import pytest

from tests.engine.conftest import BenchMaker, bench, clock, database, made
from tests.provisioning.manifests import Applied, apply, secrets, sixty_things

__all__ = ["bench", "clock", "database", "made"]


@pytest.fixture
async def sixty(bench: BenchMaker) -> Applied:
    """An engine through which the manifest of sixty things was applied, and the manifest."""
    made, wanted = bench(secrets=secrets()), sixty_things()
    await apply(made, wanted)
    return made, wanted
