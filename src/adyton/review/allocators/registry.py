"""Allocators by name: every subclass of `Allocator` in a module of this package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from adyton.review import allocators
from adyton.review.allocators.contract import Allocator
from adyton.review.errors import UnknownAllocatorError


@cache
def allocator_classes() -> dict[str, type[Allocator]]:
    """All allocators by name, in alphabetical order."""
    found: dict[str, type[Allocator]] = {}
    for module in pkgutil.iter_modules(allocators.__path__):
        members = vars(importlib.import_module(f"{allocators.__name__}.{module.name}")).values()
        for member in members:
            if isinstance(member, type) and issubclass(member, Allocator) and hasattr(member, "name"):
                found[member.name] = member
    return dict(sorted(found.items()))


def allocator_names() -> tuple[str, ...]:
    """All names."""
    return tuple(allocator_classes())


def find_allocator(name: str) -> Allocator:
    """A fresh allocator. Raises UnknownAllocatorError."""
    classes = allocator_classes()
    if name not in classes:
        raise UnknownAllocatorError(f"there is no allocator {name!r}", hint=f"one of {', '.join(classes)}")
    return classes[name]()
