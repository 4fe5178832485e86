"""Imports with the garbage collector at rest, which is a tenth of the processor time that importing the SDK takes.

What modules are made of lives as long as the process: looking through it finds nothing, at start and ever after.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """The module. Where this is its first import, the collector leaves alone for good whatever there is after it."""
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
