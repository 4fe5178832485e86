"""Imports with the garbage collector at rest."""

import gc
import sys
from pathlib import Path

import pytest

from connector_mcp.importing import imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module's file, which says whether the collector works while it is imported."""
    path = tmp_path / "a_module_of_the_test.py"
    path.write_text("import gc\nat_work = gc.isenabled()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return path


def test_the_collector_rests_during_a_first_import_and_works_again_afterwards(module: Path) -> None:
    assert imported(module.stem).at_work is False
    assert gc.isenabled()


def test_the_collector_works_again_after_an_import_that_fails(module: Path) -> None:
    module.write_text("raise LookupError\n")
    with pytest.raises(LookupError):
        imported(module.stem)
    assert gc.isenabled()


def test_what_is_imported_already_is_given_as_it_is(module: Path) -> None:
    first = imported(module.stem)
    frozen = gc.get_freeze_count()
    assert imported(module.stem) is first
    assert gc.get_freeze_count() == frozen
