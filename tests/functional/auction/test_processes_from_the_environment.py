"""Five services of two parties as five processes, started from the reference's environment names, hold an auction."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc

ONE = "buyer1.example"
SERVE = "from adyton.cli.auction import auction; auction(['serve', '--from-environment'])"


@pytest.mark.slow
def test_an_auction_across_five_processes_started_by_environment_names(tmp_path: Path, parts: ModuleType) -> None:
    parts.write_files(tmp_path)
    started: list[subprocess.Popen[str]] = []

    def serve(**environ: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env={**inherited, "TEST_MODE": "true", "ADYTON_LISTEN": "127.0.0.1:0", **environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        ((address,),) = [[entry["grpc"] for entry in ready["processes"].values()]]
        return str(address)

    def code(**members: object) -> str:
        return json.dumps({"fetchMode": 2, **members})

    async def auction(address: str) -> tuple[str, str, str]:
        ciphertext, context = parts.encrypt(parts.client_input({ONE: b"\x07"}))
        request = parts.select_ad_request(ciphertext, buyers=(ONE,))
        async with grpc.aio.insecure_channel(address) as channel:
            reply = await ba_grpc.SellerFrontEndStub(channel).SelectAd(request, timeout=60)
        result = parts.decrypt(reply, context)
        urls = result.win_reporting_urls
        return (
            result.ad_render_url,
            urls.buyer_reporting_urls.reporting_url,
            urls.top_level_seller_reporting_urls.reporting_url,
        )

    try:
        retrieval = serve(ADYTON_SNAPSHOT_FOLDER=str(tmp_path / ONE), ADYTON_KV_UDF=str(tmp_path / "retrieval.js"))
        bidding = serve(
            BIDDING_PORT="1",
            BUYER_CODE_FETCH_CONFIG=code(
                biddingJsPath=str(tmp_path / "bid.js"), prepareDataForAdsRetrievalJsPath=str(tmp_path / "prepare.js")
            ),
            EGRESS_SCHEMA_FETCH_CONFIG=code(egressSchemaPath=str(tmp_path / "schema.json")),
            limited_egress_bits="8",
            TEE_AD_RETRIEVAL_KV_SERVER_ADDR=retrieval,
        )
        buyer = serve(
            BUYER_FRONTEND_PORT="1",
            BIDDING_SERVER_ADDR=bidding,
            PROTECTED_APP_SIGNALS_GENERATE_BID_TIMEOUT_MS="60000",
        )
        scoring = serve(
            AUCTION_PORT="1",
            SELLER_CODE_FETCH_CONFIG=code(
                auctionJsPath=str(tmp_path / "seller.js"),
                enableReportResultUrlGeneration=True,
                enableReportWinUrlGeneration=True,
                protectedAppSignalsBuyerReportWinJsUrls={ONE: str(tmp_path / "report_win.js")},
            ),
            ENABLE_REPORT_WIN_INPUT_NOISING="false",
        )
        seller = serve(
            SELLER_FRONTEND_PORT="1",
            SELLER_ORIGIN_DOMAIN=parts.SELLER,
            AUCTION_SERVER_HOST=scoring,
            BUYER_SERVER_HOSTS=json.dumps({ONE: {"url": buyer, "cloudPlatform": "GCP"}}),
            SCORING_SIGNALS_FETCH_MODE="NOT_FETCHED",
        )
        render_url, buyer_url, seller_url = asyncio.run(auction(seller))
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(timeout=60) for process in started]
        for process in started:
            assert process.stdout is not None
            process.stdout.close()

    assert render_url == parts.ad_url(ONE, 7)
    assert buyer_url.startswith(f"https://{ONE}/win?egress=")
    assert seller_url == "https://seller.example/result?bid=2"
    assert codes == [0] * 5
