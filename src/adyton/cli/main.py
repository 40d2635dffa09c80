"""`adyton`: one command, one subcommand per noun. Subcommands load their packages only when they are called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from typing import NoReturn

import click

from adyton import __version__
from adyton.kernel.errors import AdytonError, InternalError, UnavailableError

# Only modules that exist are listed; a test loads every one of them.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("adyton.cli.demo:demo", "Run the whole loop on shipped data and write a report."),
    "sample": ("adyton.cli.sample:sample", "Write the shipped tables as files, to try things on."),
    "review": ("adyton.cli.review:review", "Simulate and compare how ads are given to moderators."),
    "queue": ("adyton.cli.queue:queue", "Run the live review queue."),
    "party": ("adyton.cli.party:party", "Make and show a party's keys."),
    "seal": ("adyton.cli.seal:seal", "Seal a table for its owner and for checked enclaves."),
    "unseal": ("adyton.cli.unseal:unseal", "Open one's own sealed table."),
    "contract": ("adyton.cli.contract:contract", "Draft, sign, show and verify a contract."),
    "cleanroom": ("adyton.cli.cleanroom:cleanroom", "Run jobs on sealed tables and open their outputs."),
    "psi": ("adyton.cli.psi:psi", "Count shared users before a contract, noised."),
    "receipt": ("adyton.cli.receipt:receipt", "Check receipts of clean-room runs."),
    "attest": ("adyton.cli.attest:attest", "Check attestation evidence by name."),
    "broker": ("adyton.cli.broker:broker", "Release data keys to attested code only."),
    "ctr": ("adyton.cli.ctr:ctr", "Train, evaluate and export click models."),
    "synth": ("adyton.cli.synth:synth", "Make synthetic tables and measure them."),
    "device": ("adyton.cli.device:device", "Play a device: signals, encoder, auction, controls."),
    "auction": ("adyton.cli.auction:auction", "Run the services of a protected auction."),
    "egress": ("adyton.cli.egress:egress", "Encode, decode and check egress payloads."),
    "sandbox": ("adyton.cli.sandbox:sandbox", "What untrusted scripts can and cannot do here."),
}

EXIT_CODES = """\
Exit codes: 0 done; 2 the command line is wrong; 10 the input cannot be used; 11 a rule refused; 12 the other party
misbehaved; 13 this machine lacks something (full, read-only, missing); 70 a defect of adyton; 130 interrupted.
"""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class _LazyGroup(click.Group):
    """A click group whose subcommands are imported on first use, so that `adyton --help` does not load torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command), f"{module_name}:{attribute} is not a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="adyton")
def cli() -> None:
    """Private advertising end to end: ad review, a data clean room and a protected auction."""


def main() -> NoReturn:
    """Run the command line; errors become `error:` and `hint:` lines on stderr and a documented exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of `adyton ARGUMENTS`. Defects keep their traceback; all other errors do not."""
    try:
        result = cli.main(args=arguments, prog_name="adyton", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("error: interrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("error: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except InternalError:
        return _defect()
    except AdytonError as error:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    except OSError as error:
        if error.errno in _FULL or (error.errno in _FORBIDDEN and error.filename is not None):
            return _cannot_write(error)
        return _defect()
    except Exception:  # noqa: BLE001 - the last place where a defect can get its own exit code
        return _defect()
    return result if isinstance(result, int) else 0


def _cannot_write(error: OSError) -> int:
    """Tells what this machine lacks where no command had words of its own: most often room for standard output."""
    if error.errno in _FULL:
        # What is left in the buffer would fail a second time when the interpreter ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    where = "standard output or a file that was being written" if error.filename is None else str(error.filename)
    click.echo(f"error: {where}: {(error.strerror or type(error).__name__).lower()}", err=True)
    click.echo(
        "hint: nothing of this output can be relied on; make room or name another place, then run it again", err=True
    )
    return UnavailableError.exit_code


def _defect() -> int:
    """Shows the traceback of what we did wrong. Source: `InternalError.exit_code`."""
    traceback.print_exc()
    return InternalError.exit_code


if __name__ == "__main__":
    main()
