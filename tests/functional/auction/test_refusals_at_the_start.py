"""What a person mistypes when starting services: one error that names the place, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from adyton.auction.config import parse_config
from adyton.auction.inference.errors import ModelListError
from adyton.auction.services.process import PartyProcess
from adyton.cli.auction import auction
from adyton.kernel.errors import AdytonError, BadInputError
from adyton.sandbox.errors import UdfLoadError

MEASUREMENT = "0f" * 32


def run(*arguments: str) -> Result:
    return CliRunner().invoke(auction, arguments, standalone_mode=False)


def key_service(folder: Path, *arguments: str) -> Result:
    stores = ("--store", str(folder / "store"), "--broker-store", str(folder / "broker"))
    return run("keys", "serve", *stores, *arguments)


@pytest.mark.parametrize("server", [("serve", "--all"), ("collector", "--out", "reports")])
def test_an_unknown_log_level_is_a_usage_error(server: tuple[str, ...]) -> None:
    assert isinstance(run(*server, "--log-level", "loud").exception, click.BadParameter)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--measurement", "zz"),
        ("--measurement", MEASUREMENT[:-1]),
        ("--measurement", MEASUREMENT, "--publish-days", "nan"),
        ("--measurement", MEASUREMENT, "--grace-days", "1e300"),
        ("--measurement", MEASUREMENT, "--log-level", "loud"),
    ],
)
def test_a_key_service_refuses_what_cannot_be_meant(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert isinstance(key_service(tmp_path, *arguments).exception, click.BadParameter)
    assert list(tmp_path.iterdir()) == []


def test_a_key_service_refuses_an_address_that_is_none(tmp_path: Path) -> None:
    refused = key_service(tmp_path, "--measurement", MEASUREMENT, "--listen", "127.0.0.1:70000").exception
    assert isinstance(refused, BadInputError)
    assert refused.where == "127.0.0.1:70000"


def test_an_exchange_key_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "key")
    refused = run("keys", "exchange-key", path).exception
    assert isinstance(refused, BadInputError)
    assert refused.where == path


@pytest.mark.parametrize(
    ("section", "kind", "place"),
    [
        ({"auction": {"score_ad": "broken.js"}}, UdfLoadError, "broken.js"),
        ({"inference": {"models": "missing"}}, ModelListError, "missing, models.json"),
        ({"inference": {"models": ".", "model_list": "broken.js"}}, ModelListError, "."),
    ],
)
def test_a_process_says_which_of_its_files_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, object], kind: type[AdytonError], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.js").write_text("function (")

    async def start() -> None:
        async with PartyProcess(parse_config({"name": "s", "test_mode": True, **section})):
            pass

    with pytest.raises(kind) as caught:
        asyncio.run(start())
    assert caught.value.where == place
