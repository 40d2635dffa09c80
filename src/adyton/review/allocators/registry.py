"""Allocators by name: every subclass of `Allocator` in a module of this package, and any other as `module:Class`."""

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
    """A fresh allocator: one of this package by its name, or the class that `module:Class` names.

    Raises UnknownAllocatorError when there is none, or when the class is no `Allocator`.
    """
    classes = allocator_classes()
    if name in classes:
        return classes[name]()
    module_name, colon, class_name = name.partition(":")
    hint = f"one of {', '.join(classes)}, or module:Class"
    if not colon:
        raise UnknownAllocatorError(f"there is no allocator {name!r}", hint=hint)
    try:
        found = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UnknownAllocatorError(f"there is no allocator {name!r}: {error}", hint=hint) from error
    if not isinstance(found, Allocator):
        raise UnknownAllocatorError(
            f"{name!r} is no allocator", hint="derive from adyton.review.allocators.contract.Allocator"
        )
    return found
