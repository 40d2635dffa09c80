"""What the seller front end tells each buyer (protected-auction §7.1, steps 5 and 7; §7.5)."""

from __future__ import annotations

from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

GetBidsRawRequest = ba.GetBidsRequest.GetBidsRawRequest


def is_protected_app_signals_active(request: ba.SelectAdRequest, config: ba.AuctionConfig, *, is_enabled: bool) -> bool:
    """True if signals may be used: enabled here, and the auction has a single seller."""
    return is_enabled and not config.top_level_seller and not request.component_auction_results


def has_something_to_bid_on(buyer_input: ba.BuyerInput, *, is_pas_active: bool) -> bool:
    """False for a buyer whose signals are dropped and who has no interest groups: calling it would only fail."""
    has_signals = is_pas_active and bool(buyer_input.protected_app_signals.app_install_signals)
    return has_signals or bool(buyer_input.interest_groups)


def build_get_bids_request(
    *,
    buyer: str,
    buyer_input: ba.BuyerInput,
    client_input: ba.ProtectedAuctionInput,
    request: ba.SelectAdRequest,
    config: ba.AuctionConfig,
    is_pas_active: bool,
    is_kanon_enforced: bool = False,
) -> ba.GetBidsRequest.GetBidsRawRequest:
    """The request to one buyer. None of the arguments is changed.

    Contextual data come from `request.auction_config`, never from the compressed configuration, as the reference does.
    """
    is_android = request.client_type == ba.CLIENT_TYPE_ANDROID
    per_buyer = config.per_buyer_config.get(buyer)
    raw = GetBidsRawRequest(
        seller=config.seller,
        publisher_name=client_input.publisher_name,
        auction_signals=config.auction_signals,
        client_type=request.client_type,
        top_level_seller=config.top_level_seller,
        enable_unlimited_egress=client_input.enable_unlimited_egress,
        is_debug_eligible=client_input.enable_unlimited_egress and is_android,
        enable_debug_reporting=client_input.enable_debug_reporting and not is_android,
        priority_signals=config.priority_signals,
    )
    raw.buyer_input.CopyFrom(buyer_input)
    raw.log_context.generation_id = client_input.generation_id
    if client_input.HasField("consented_debug_config"):
        raw.consented_debug_config.CopyFrom(client_input.consented_debug_config)
    if per_buyer is not None:
        raw.buyer_signals = per_buyer.buyer_signals
        raw.log_context.adtech_debug_id = per_buyer.buyer_debug_id
        if per_buyer.HasField("blob_versions"):
            raw.blob_versions.CopyFrom(per_buyer.blob_versions)
        if per_buyer.HasField("buyer_kv_experiment_group_id"):
            raw.buyer_kv_experiment_group_id = per_buyer.buyer_kv_experiment_group_id
        if is_kanon_enforced:
            raw.multi_bid_limit = per_buyer.per_buyer_multi_bid_limit
    raw.enforce_kanon = is_kanon_enforced
    if is_pas_active and buyer_input.protected_app_signals.app_install_signals:
        raw.protected_app_signals_buyer_input.protected_app_signals.CopyFrom(buyer_input.protected_app_signals)
        contextual = _contextual_data(request.auction_config, buyer)
        if contextual is not None:
            raw.protected_app_signals_buyer_input.contextual_protected_app_signals_data.CopyFrom(contextual)
    raw.buyer_input.ClearField("protected_app_signals")
    return raw


def build_chaff_request(generation_id: str) -> ba.GetBidsRequest.GetBidsRawRequest:
    """A request that holds nothing but the generation id."""
    return GetBidsRawRequest(is_chaff=True, log_context={"generation_id": generation_id})


def _contextual_data(config: ba.AuctionConfig, buyer: str) -> ba.ContextualProtectedAppSignalsData | None:
    if buyer not in config.per_buyer_config:
        return None
    contextual = config.per_buyer_config[buyer].contextual_protected_app_signals_data
    return contextual if contextual.ad_render_ids else None
