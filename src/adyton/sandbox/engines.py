"""The engines that scripts run on. Each is a program that speaks the frames of `frames` on its standard streams."""

from __future__ import annotations

from enum import Enum
from importlib import resources

from adyton.sandbox.deno import deno_command
from adyton.sandbox.isolation import Isolation, WorkerCommand
from adyton.sandbox.quickjs import quickjs_command
from adyton.sandbox.values import SandboxLimits


class Engine(Enum):
    """V8 (in Deno) is what the reference services run; QuickJS needs no binary but a Python extension module."""

    V8 = "v8"
    QUICKJS = "quickjs"


def worker_command(engine: Engine, limits: SandboxLimits, isolation: Isolation) -> WorkerCommand:
    """The command line of one worker. Raises SandboxUnavailableError if the engine is not installed."""
    if engine is Engine.QUICKJS:
        return quickjs_command(limits, isolation)
    return deno_command(limits, isolation)


def driver_source() -> str:
    """The trusted code that runs in each script's context."""
    return resources.files("adyton.sandbox").joinpath("driver.js").read_text()
