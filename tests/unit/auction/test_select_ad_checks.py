"""SelectAd's checks: each text, each class of reader, and the good case that passes all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adyton.auction.errors import RequestError
from adyton.auction.seller.select_ad_checks import (
    auction_config,
    check_auction_config,
    join_texts,
    read_client_input,
    request_ciphertext,
)
from adyton.protocol.compression import gzip_compress
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

DOMAIN = "seller.example"


def good_config() -> ba.AuctionConfig:
    config = ba.AuctionConfig(
        seller_signals="{}", auction_signals="{}", buyer_list=["b"], seller=DOMAIN, seller_currency="EUR"
    )
    config.per_buyer_config["b"].buyer_signals = "{}"
    config.per_buyer_config["b"].buyer_currency = "USD"
    return config


def check(config: ba.AuctionConfig) -> tuple[str, ...]:
    return check_auction_config(config, seller_domain=DOMAIN, client_type=ba.CLIENT_TYPE_ANDROID)


def test_a_complete_configuration_has_no_findings() -> None:
    assert check(good_config()) == ()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda c: c.ClearField("seller_signals"), "Seller signals missing in auction config"),
        (lambda c: c.ClearField("auction_signals"), "Auction signals missing in auction config"),
        (lambda c: c.ClearField("buyer_list"), "No buyers specified"),
        (
            lambda c: setattr(c, "seller", "seller.example.evil"),
            "Seller domain passed in request does not match this server's domain",
        ),
        (
            lambda c: c.per_buyer_config["b"].ClearField("buyer_signals"),
            "Buyer signals missing in auction config for buyer: b",
        ),
        (
            lambda c: setattr(c.per_buyer_config[""], "buyer_signals", "{}"),
            "One or more buyer keys are empty in per buyer config map",
        ),
        (lambda c: setattr(c.per_buyer_config["b"], "buyer_currency", "usd"), "Invalid Buyer Currency"),
        (lambda c: setattr(c, "seller_currency", "EURO"), "Invalid Seller Currency"),
        (
            lambda c: setattr(c, "top_level_seller", "top.example"),
            "Device orchestrated Component Auctions not supported for Android",
        ),
    ],
)
def test_each_gap_of_the_ad_server_is_named_alone(spoil: Callable[[ba.AuctionConfig], None], text: str) -> None:
    config = good_config()
    spoil(config)

    assert check(config) == (text,)


def test_only_android_has_no_auctions_that_a_device_puts_together() -> None:
    config = good_config()
    config.top_level_seller = "top.example"

    def told(client_type: int) -> tuple[str, ...]:
        return check_auction_config(config, seller_domain=config.seller, client_type=client_type)

    assert told(ba.CLIENT_TYPE_ANDROID) == ("Device orchestrated Component Auctions not supported for Android",)
    assert told(ba.CLIENT_TYPE_BROWSER) == ()
    config.top_level_cloud_platform = ba.ENCRYPTION_CLOUD_PLATFORM_AWS
    assert told(ba.CLIENT_TYPE_ANDROID) == ()


def test_several_gaps_are_told_together_in_the_order_of_their_characters() -> None:
    assert join_texts(check(ba.AuctionConfig())) == (
        "Auction signals missing in auction config; "
        "No buyers specified; "
        "Seller domain passed in request does not match this server's domain; "
        "Seller origin missing in auction config; "
        "Seller signals missing in auction config"
    )
    assert join_texts(("b", "a", "b")) == "a; b"


def client_message(**inputs: bytes) -> ba.ProtectedAuctionInput:
    return ba.ProtectedAuctionInput(publisher_name="app", generation_id="1", buyer_input=inputs)


def buyer_data(signals: bytes = b"\x01") -> bytes:
    data = ba.BuyerInput(protected_app_signals={"app_install_signals": signals})
    return gzip_compress(data.SerializeToString())


def test_a_complete_input_is_decoded() -> None:
    client = read_client_input(client_message(b=buyer_data(b"\x09")).SerializeToString())

    assert client.errors == ()
    assert client.buyer_inputs["b"].protected_app_signals.app_install_signals == b"\x09"


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        (
            ba.ProtectedAuctionInput(),
            (
                "Request is missing generation ID",
                "Request is missing publisher name",
                "Request is missing buyer inputs",
            ),
        ),
        (client_message(b=b"not gzip"), ("Unable to decompress buyer input for buyer: b",)),
        (client_message(b=gzip_compress(b"\xff\xff")), ("Unable to decode BuyerInput binary proto for buyer: b",)),
        (
            client_message(b=buyer_data(b"")),
            ("Request is missing interest groups and protected signals for buyer: b",),
        ),
        (client_message(**{"": buyer_data()}), ("Malformed buyer input.",)),
        (
            client_message(a=buyer_data(), b=buyer_data()[:-3]),
            ("Unable to decompress buyer input for buyer: b",),
        ),
    ],
)
def test_each_gap_of_the_client_has_its_text(message: ba.ProtectedAuctionInput, texts: tuple[str, ...]) -> None:
    assert read_client_input(message.SerializeToString()).errors == texts


def test_one_buyers_empty_input_does_not_cost_the_others_their_auction() -> None:
    client = read_client_input(client_message(a=buyer_data(), b=buyer_data(b"")).SerializeToString())

    assert client.errors == ()
    assert set(client.buyer_inputs) == {"a"}


def test_bytes_that_are_no_message_are_one_error() -> None:
    assert read_client_input(b"\xff\xff\xff").errors == ("Unable to decode binary proto",)


def test_a_compressed_buyer_input_cannot_fill_the_memory() -> None:
    bomb = gzip_compress(b"\0" * (17 * 1024 * 1024))

    assert read_client_input(client_message(b=bomb).SerializeToString()).errors == (
        "Unable to decompress buyer input for buyer: b",
    )


def test_compressed_buyer_inputs_cannot_fill_the_memory_together() -> None:
    mebibyte = 1024 * 1024
    large = buyer_data(b"\0" * (6 * mebibyte))
    unread = tuple(f"Unable to decompress buyer input for buyer: {buyer}" for buyer in "cde")

    client = read_client_input(client_message(a=large, b=large, c=large, d=large, e=large).SerializeToString())
    assert client.errors == unread
    assert set(client.buyer_inputs) == {"a", "b"}
    # A message that holds nothing of what was sent counts all the same.
    twice = gzip_compress(b"\x12\x05\x0a\x03abc" * (9 * mebibyte // 7))
    client = read_client_input(client_message(a=twice, b=twice).SerializeToString())
    assert client.errors == ("Unable to decompress buyer input for buyer: b",)


def test_exactly_one_auction_configuration_is_taken() -> None:
    plain = ba.SelectAdRequest(auction_config=good_config())
    packed = ba.SelectAdRequest(
        compressed_auction_config={
            "compression_algorithm": ba.COMPRESSION_ALGORITHM_GZIP,
            "auction_config": gzip_compress(good_config().SerializeToString(deterministic=True)),
        }
    )
    both = ba.SelectAdRequest()
    both.CopyFrom(plain)
    both.compressed_auction_config.CopyFrom(packed.compressed_auction_config)

    assert auction_config(plain) == auction_config(packed) == good_config()
    for refused in (both, ba.SelectAdRequest()):
        with pytest.raises(RequestError, match="Provide one AuctionConfig value in SelectAdRequest"):
            auction_config(refused)


def test_a_compressed_configuration_is_gzip_whatever_its_algorithm_says() -> None:
    request = ba.SelectAdRequest()
    request.compressed_auction_config.auction_config = gzip_compress(good_config().SerializeToString())

    assert auction_config(request) == good_config()
    request.compressed_auction_config.auction_config = b"not gzip"
    with pytest.raises(RequestError, match=r"^Unable to decompress compressed_auction_config field$"):
        auction_config(request)
    request.compressed_auction_config.auction_config = gzip_compress(b"\xff")
    with pytest.raises(RequestError, match=r"^Unable to parse AuctionConfig proto from decompressed"):
        auction_config(request)


def test_the_deprecated_ciphertext_member_still_works() -> None:
    assert request_ciphertext(ba.SelectAdRequest(protected_audience_ciphertext=b"old")) == b"old"
    with pytest.raises(RequestError, match="protected_auction_ciphertext must be non-null"):
        request_ciphertext(ba.SelectAdRequest())
