"""Import large packages without garbage collection, which would take a tenth of the time of importing the SDK.

Objects of modules live as long as the process, so collecting among them finds nothing.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """Import and return the module. After a first import, the collector ignores all objects that exist by then."""
    known = sys.modules.get(name)
    if known is not None:
        return known
    at_work = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if at_work:
            gc.enable()
