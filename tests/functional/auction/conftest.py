"""A seller and two buyers as processes of their own sockets in this event loop, and a client that plays device and ad
server. Scripts, snapshots and schemas are real files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from adyton.auction.config import parse_config
from adyton.auction.seller.chaffing import UniformChaffSizes, chaff_generator, plan_requests
from adyton.auction.services.process import PartyProcess
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.frames import PaddingFormat, decode_client_frame, encode_client_frame, padded_request_size
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import ClientContext, Label, encapsulate_request

BUYERS = ("buyer1.example", "buyer2.example")
SELLER = "seller.example"

PREPARE = """
function prepareDataForAdRetrieval(signals, version, auctionSignals, contextualSignals) {
  return { topic: signals[0], version, floor: auctionSignals.floor };
}
"""
RETRIEVAL = """
function HandleRequest(metadata, protectedSignals, device, contextualSignals, ids) {
  const prepared = JSON.parse(protectedSignals);
  const keys = (ids && ids.length) ? ids : ['ad-' + prepared.topic, 'ad-0'];
  console.log(`${keys.length} keys`);
  const found = JSON.parse(getValues(keys)).kvPairs;
  return keys.filter((key) => found[key].value).map((key) => JSON.parse(found[key].value));
}
"""
BID = """
function generateBid(ads, auctionSignals, buyerSignals, prepared, signals, version, multiBidLimit, metadata) {
  let best = null;
  for (const ad of ads) if (best === null || ad.price > best.price) best = ad;
  if (best === null) return { bid: 0 };
  return { ad: { id: best.id }, bid: best.price * (buyerSignals.factor || 1), render: best.url, bidCurrency: 'USD',
    egressPayload: JSON.stringify({ features: [{ name: 'unsigned-integer-feature', value: 5 }] }) };
}
"""
LOOP = "function generateBid() { for (;;) {} }"
SELLER_SCRIPT = """
function scoreAd(ad, bid, config, trusted, browserSignals) {
  if (bid < config.auctionSignals.floor) return { desirability: 0, rejectReason: 'bid-below-auction-floor' };
  return { desirability: bid * 10 };
}
function reportResult(config, signals) {
  sendReportTo('https://seller.example/result?bid=' + signals.bid);
  return { seen: signals.renderUrl };
}
"""
REPORT_WIN = """
function reportWin(auctionSignals, perBuyerSignals, signalsForWinner, signals, direct, egress, unlimited) {
  sendReportTo('https://' + signals.interestGroupOwner + '/win?egress=' + encodeURIComponent(egress) +
    '&seen=' + encodeURIComponent(signalsForWinner.seen) + '&request=' + perBuyerSignals.request);
  registerAdBeacon({ click: 'https://' + signals.interestGroupOwner + '/click' });
}
"""
SCHEMA = {
    "cddl_version": "1.0.0",
    "version": 2,
    "features": [{"name": "unsigned-integer-feature", "size": 7}],
}
PRICES = {"buyer1.example": {0: 0.5, 7: 2.0}, "buyer2.example": {0: 0.75, 7: 3.0}}


def ad_url(buyer: str, topic: int) -> str:
    return f"https://cdn.{buyer}/ad-{topic}"


def write_files(folder: Path) -> None:
    texts = {
        "prepare.js": PREPARE,
        "retrieval.js": RETRIEVAL,
        "bid.js": BID,
        "loop.js": LOOP,
        "seller.js": SELLER_SCRIPT,
        "report_win.js": REPORT_WIN,
        "schema.json": json.dumps(SCHEMA),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for buyer in BUYERS:
        rows = ["key,logical_commit_time,mutation_type,value,value_type"]
        for topic, price in PRICES[buyer].items():
            value = json.dumps({"id": topic, "url": ad_url(buyer, topic), "price": price}).replace('"', '""')
            rows.append(f'ad-{topic},1,UPDATE,"{value}",string')
        snapshot = folder / buyer
        snapshot.mkdir()
        (snapshot / "SNAPSHOT_0000000000000001.csv").write_text("\n".join(rows) + "\n")


def buyer_document(folder: Path, buyer: str, **bidding: object) -> dict[str, object]:
    return {
        "name": buyer,
        "test_mode": True,
        "consented_debug_token": "debug-me",
        "sandbox": {"spares": 0, "workers_per_udf": 1},
        "buyer_front_end": {"bidding_timeout_ms": 20_000},
        "bidding": {
            "generate_bid": str(folder / "bid.js"),
            "prepare_data": str(folder / "prepare.js"),
            "egress_schema": str(folder / "schema.json"),
            "limited_egress_bits": 8,
            "noise_rate": "0",
            **bidding,
        },
        "key_value": {"snapshot": str(folder / buyer), "udf": str(folder / "retrieval.js")},
    }


def seller_document(folder: Path, addresses: dict[str, str], **front_end: object) -> dict[str, object]:
    return {
        "name": SELLER,
        "test_mode": True,
        "http_listen": "127.0.0.1:0",
        "consented_debug_token": "debug-me",
        "sandbox": {"spares": 0, "workers_per_udf": 1},
        "seller_front_end": {
            "seller_domain": SELLER,
            "buyers": addresses,
            "enable_chaffing": True,
            "uses_scoring_signals": False,
            **front_end,
        },
        "auction": {
            "score_ad": str(folder / "seller.js"),
            "report_win": {buyer: str(folder / "report_win.js") for buyer in BUYERS},
            "enable_report_win_input_noising": False,
        },
    }


def client_input(signals: dict[str, bytes], *, generation_id: str = "17") -> ba.ProtectedAuctionInput:
    message = ba.ProtectedAuctionInput(publisher_name="com.example.app", generation_id=generation_id)
    for buyer, payload in signals.items():
        data = ba.BuyerInput(protected_app_signals={"app_install_signals": payload, "encoding_version": 3})
        message.buyer_input[buyer] = gzip_compress(data.SerializeToString())
    return message


def encrypt(message: ba.ProtectedAuctionInput, label: Label = Label.SFE_CURRENT) -> tuple[bytes, ClientContext]:
    payload = message.SerializeToString()
    size = padded_request_size(len(payload), PaddingFormat.V1)
    frame = b"\x02" + encode_client_frame(payload, size=size)[1:]
    return encapsulate_request(TEST_MODE_KEY.public_key, frame, label)


def select_ad_request(ciphertext: bytes, *, buyers: tuple[str, ...] = BUYERS) -> ba.SelectAdRequest:
    request = ba.SelectAdRequest(protected_auction_ciphertext=ciphertext, client_type=ba.CLIENT_TYPE_ANDROID)
    config = request.auction_config
    config.seller, config.seller_signals, config.auction_signals = SELLER, '{"a":1}', '{"floor":0.1}'
    for buyer in buyers:
        config.buyer_list.append(buyer)
        config.per_buyer_config[buyer].buyer_signals = '{"request":"r1"}'
        config.per_buyer_config[buyer].buyer_currency = "USD"
    return request


def decrypt(response: ba.SelectAdResponse, context: ClientContext) -> ba.AuctionResult:
    frame = context.decapsulate_response(response.auction_result_ciphertext)
    return ba.AuctionResult.FromString(gzip_decompress(decode_client_frame(frame).payload))


def plans_chaff(generation_id: str, *, real: tuple[str, ...], candidates: tuple[str, ...], n_configured: int) -> bool:
    """Whether the seller sends chaff for this generation id."""
    planned = plan_requests(
        real=real,
        candidates=candidates,
        n_configured=n_configured,
        sizes=UniformChaffSizes(),
        generator=chaff_generator(generation_id),
    )
    return any(request.is_chaff for request in planned)


@dataclass
class Stack:
    """The running parties and a stub of the seller."""

    seller: PartyProcess
    buyers: dict[str, PartyProcess]
    stub: ba_grpc.SellerFrontEndStub
    folder: Path

    async def auction(self, message: ba.ProtectedAuctionInput, **changes: object) -> ba.AuctionResult:
        ciphertext, context = encrypt(message)
        request = select_ad_request(ciphertext, **changes)  # type: ignore[arg-type]
        return decrypt(await self.stub.SelectAd(request, timeout=30), context)


@pytest.fixture
def parts() -> ModuleType:
    """This module: its builders and constants."""
    return sys.modules[__name__]


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., object]:
    """A factory of context managers: `async with running(seller={...}, buyers={...}) as stack`."""

    @asynccontextmanager
    async def run(
        *, front_end: dict[str, object] | None = None, bidding: dict[str, dict[str, object]] | None = None
    ) -> AsyncIterator[Stack]:
        write_files(tmp_path)
        async with AsyncExitStack() as stack:
            parties = {}
            for buyer in BUYERS:
                document = buyer_document(tmp_path, buyer, **(bidding or {}).get(buyer, {}))
                parties[buyer] = await stack.enter_async_context(PartyProcess(parse_config(document)))
            addresses = {buyer: party.addresses.grpc for buyer, party in parties.items()}
            document = seller_document(tmp_path, addresses, **(front_end or {}))
            seller = await stack.enter_async_context(PartyProcess(parse_config(document)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(seller.addresses.grpc))
            yield Stack(seller, parties, ba_grpc.SellerFrontEndStub(channel), tmp_path)

    return run
