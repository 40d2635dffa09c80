"""Options that would do nothing are refused: whoever gives one expects something of it."""

from __future__ import annotations

import click
from click.core import ParameterSource


def refuse_if_given(*names: str, why: str) -> None:
    """Raise UsageError if the command line gave one of the parameters `names`, whatever its value.

    why: ends the sentence "--option ...", such as "is for --synthesizer label-tree".
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[-1]} {why}", context)
