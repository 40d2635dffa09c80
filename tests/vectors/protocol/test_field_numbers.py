"""Names, numbers and types of fields in protected-auction §6, §9 and §10.1: renumbering one breaks every neighbour."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from adyton.protocol.messages import bidding_auction_servers_pb2, inference_pb2, kv_server_pb2, kv_server_v2_pb2
from adyton.protocol.messages import server_common_pb2 as common

# name=number[:[R for repeated][? for optional][type]], typed where the specification names a scalar.
FIELDS = """
ConsentedDebugConfiguration: is_consented=1:B token=2:s is_debug_info_in_response=3:B
LogContext: generation_id=1:s adtech_debug_id=2:s
DebugInfo: server_name=1:s logs=2:Rs downstream_servers=3:R event_message=4
ProtectedAuctionInput: buyer_input=1 publisher_name=2:s enable_debug_reporting=3:B generation_id=4:s
    consented_debug_config=5 enable_unlimited_egress=6:B request_timestamp_ms=7:i64 num_k_anon_ghost_winners=8:?i32
    enforce_kanon=9:B prod_debug=10:B fdo_flags=11
ForDebuggingOnlyFlags: enable_sampled_debug_reporting=1:B in_cooldown_or_lockout=2:B
BuyerInput: interest_groups=1:R protected_app_signals=2 in_cooldown_or_lockout=3:B
ProtectedAppSignals: app_install_signals=1:b encoding_version=2:i32
AuctionResult: ad_render_url=1:s ad_component_render_urls=2:Rs interest_group_name=3:s interest_group_owner=4:s
    score=5:f bid=6:f is_chaff=7:B win_reporting_urls=8 bidding_groups=11 error=12 interest_group_origin=13:s
    ad_type=14 top_level_seller=15:s ad_metadata=16:s bid_currency=17:s auction_params=18 buyer_reporting_id=19:s
    buyer_and_seller_reporting_id=20:s k_anon_winner_join_candidates=21 k_anon_winner_positional_index=22:i32
    k_anon_ghost_winners=23 top_level_contributions=24 update_groups=25 selected_buyer_and_seller_reporting_id=26:s
    adtech_origin_debug_urls_map=27
WinReportingUrls: buyer_reporting_urls=1 component_seller_reporting_urls=2 top_level_seller_reporting_urls=3
SelectAdRequest: protected_audience_ciphertext=1:b auction_config=2 client_type=3 protected_auction_ciphertext=4:b
    component_auction_results=5 compressed_auction_config=6
AuctionConfig: seller_signals=1:s auction_signals=2:s buyer_list=3:Rs seller=4:s per_buyer_config=5
    code_experiment_spec=6 seller_debug_id=7:s buyer_timeout_ms=8:i32 top_level_seller=9:s seller_currency=10:s
    top_level_cloud_platform=11 per_component_seller_config=12 priority_signals=13:s ad_auction_result_nonce=14:s
PerBuyerConfig: buyer_signals=1:s buyer_kv_experiment_group_id=2:?i32 buyer_debug_id=4:s buyer_currency=7:s
    contextual_protected_app_signals_data=8 per_buyer_multi_bid_limit=9:i32 priority_signals_overrides=10:s
    blob_versions=11
ContextualProtectedAppSignalsData: ad_render_ids=1:Rs fetch_ads_from_retrieval_service=2:B
BuyerBlobVersions: protected_audience_generate_bid_udf=1:s protected_app_signals_generate_bid_udf=2:s
    prepare_data_for_ad_retrieval_udf=3:s egress_schema=4:s temporary_unlimited_egress_schema=5:s
SelectAdResponse: auction_result_ciphertext=1:b debug_info=2 key_id=3:s
GetBidsRequest: request_ciphertext=1:b key_id=2:s
GetBidsResponse: response_ciphertext=1:b
GetBidsRawRequest: is_chaff=1:B buyer_input=2 auction_signals=3:s buyer_signals=4:s seller=5:s publisher_name=6:s
    enable_debug_reporting=7:B log_context=8 consented_debug_config=9 protected_app_signals_buyer_input=10
    client_type=11 top_level_seller=12:s buyer_kv_experiment_group_id=13:?i32 enable_unlimited_egress=14:B
    multi_bid_limit=15:i32 enforce_kanon=16:B is_debug_eligible=17:B priority_signals=18:s blob_versions=19
    buyer_input_for_bidding=20 enable_sampled_debug_reporting=21:B
ProtectedAppSignalsBuyerInput: protected_app_signals=1 contextual_protected_app_signals_data=2
GetBidsRawResponse: bids=1:R protected_app_signals_bids=2:R update_interest_group_list=3 debug_info=99
GenerateProtectedAppSignalsBidsRequest: request_ciphertext=1:b key_id=2:s
GenerateProtectedAppSignalsBidsRawRequest: auction_signals=1:s buyer_signals=2:s protected_app_signals=3 seller=4:s
    publisher_name=5:s log_context=6 consented_debug_config=7 enable_debug_reporting=8:B
    contextual_protected_app_signals_data=9 enable_unlimited_egress=10:B multi_bid_limit=11:i32 enforce_kanon=12:B
    is_sampled_for_debug=13:B blob_versions=14 top_level_seller=15:s
ProtectedAppSignalsAdWithBid: ad=1 bid=2:f render=3:s ad_cost=4:d bid_currency=6:s debug_report_urls=8
    egress_payload=9:s temporary_unlimited_egress_payload=10:s allow_component_auction=11:B
GenerateProtectedAppSignalsBidsRawResponse: bids=1:R bidding_export_debug=2:B debug_info=99
ScoreAdsRequest: request_ciphertext=1:b key_id=2:b
ScoreAdsRawRequest: ad_bids=1:R seller_signals=2:s auction_signals=3:s scoring_signals=4:s publisher_hostname=5:s
    enable_debug_reporting=6:B log_context=7 per_buyer_signals=8 consented_debug_config=9
    protected_app_signals_ad_bids=10 seller=11:s top_level_seller=12:s seller_currency=13:s
    component_auction_results=14:R num_allowed_ghost_winners=15:i32 enforce_kanon=16:B seller_data_version=17:u32
    is_sampled_for_debug=18:B score_ad_version=19:s fdo_flags=20
ProtectedAppSignalsAdWithBidMetadata: ad=1 bid=2:f render=3:s modeling_signals=4:i32 ad_cost=5:d owner=7:s
    bid_currency=8:s egress_payload=9:s temporary_unlimited_egress_payload=10:s k_anon_status=11:B
ScoreAdsRawResponse: ad_score=1 ghost_winning_ad_scores=2:R auction_export_debug=3:B seller_debug_reports=4
    debug_info=99
AdScore: desirability=1:f render=2:s component_renders=3:Rs interest_group_name=4:s buyer_bid=5:f
    interest_group_owner=6:s ad_metadata=7:s allow_component_auction=8:B bid=9:f win_reporting_urls=10
    debug_report_urls=11 ig_owner_highest_scoring_other_bids_map=12 ad_rejection_reasons=13 ad_type=14
    incoming_bid_in_seller_currency=15:f bid_currency=16:s buyer_bid_currency=17:s buyer_reporting_id=18:s
    buyer_and_seller_reporting_id=19:s interest_group_origin=20:s top_level_contributions=21
    selected_buyer_and_seller_reporting_id=22:s k_anon_join_candidate=23 seller=24:s
GetValuesHttpRequest: raw_body=1
ObliviousGetValuesRequest: raw_body=1
GetValuesRequest: client_version=1:s metadata=2 partitions=3:R log_context=4 consented_debug_config=5
    accept_compression=6:Rs
RequestPartition: id=1:i32 compression_group_id=2:?i32 metadata=3 arguments=5:R
UDFArgument: tags=1 data=2
GetValuesResponse: single_partition=1 compression_groups=2 debug_info=3
ResponsePartition: id=1:i32 string_output=2:s status=3
CompressionGroup: compression_group_id=1:i32 ttl_ms=2:i32 content=3:b
UDFExecutionMetadata: udf_interface_version=1:i32 request_metadata=2 partition_metadata=3
PredictRequest: input=1:b is_consented=2:B proto_input=3
PredictResponse: output=1:b debug_info=2 metrics_list=4
RegisterModelRequest: model_spec=1 model_files=2 warm_up_batch_request_json=3
DeleteModelRequest: model_spec=1
GetModelPathsResponse: model_specs=1:R
"""
ENUMS = {
    "ClientType": "CLIENT_TYPE_UNKNOWN CLIENT_TYPE_ANDROID CLIENT_TYPE_BROWSER",
    "AdType": "AD_TYPE_UNKNOWN AD_TYPE_PROTECTED_AUDIENCE_AD AD_TYPE_PROTECTED_APP_SIGNALS_AD",
    "AuctionScope": "AUCTION_SCOPE_SINGLE_SELLER AUCTION_SCOPE_DEVICE_COMPONENT_MULTI_SELLER "
    "AUCTION_SCOPE_SERVER_COMPONENT_MULTI_SELLER AUCTION_SCOPE_SERVER_TOP_LEVEL_SELLER",
    "SellerRejectionReason": "SELLER_REJECTION_REASON_NOT_AVAILABLE INVALID_BID BID_BELOW_AUCTION_FLOOR "
    "PENDING_APPROVAL_BY_EXCHANGE DISAPPROVED_BY_EXCHANGE BLOCKED_BY_PUBLISHER LANGUAGE_EXCLUSIONS CATEGORY_EXCLUSIONS "
    "DID_NOT_MEET_THE_KANONYMITY_THRESHOLD BID_FROM_GENERATE_BID_FAILED_CURRENCY_CHECK "
    "BID_FROM_SCORE_AD_FAILED_CURRENCY_CHECK",
}
RPCS = {
    "SellerFrontEnd": {"SelectAd"},
    "BuyerFrontEnd": {"GetBids"},
    "Bidding": {"GenerateProtectedAppSignalsBids"},
    "Auction": {"ScoreAds"},
}
PACKAGES = {
    bidding_auction_servers_pb2: "privacy_sandbox.bidding_auction_servers",
    common: "privacy_sandbox.server_common",
    kv_server_pb2: "kv_server",
    kv_server_v2_pb2: "kv_server.v2",
    inference_pb2: "privacy_sandbox.bidding_auction_servers.inference",
}
SCALARS = {
    "s": FieldDescriptor.TYPE_STRING,
    "b": FieldDescriptor.TYPE_BYTES,
    "B": FieldDescriptor.TYPE_BOOL,
    "i32": FieldDescriptor.TYPE_INT32,
    "i64": FieldDescriptor.TYPE_INT64,
    "u32": FieldDescriptor.TYPE_UINT32,
    "f": FieldDescriptor.TYPE_FLOAT,
    "d": FieldDescriptor.TYPE_DOUBLE,
}


def with_nested(message: Descriptor) -> list[Descriptor]:
    return [message, *(inner for nested in message.nested_types for inner in with_nested(nested))]


MESSAGES = {
    message.name: message
    for file in PACKAGES
    for outer in file.DESCRIPTOR.message_types_by_name.values()
    for message in with_nested(outer)
}
TABLE = [line.partition(": ")[::2] for line in FIELDS.replace("\n    ", " ").strip().splitlines()]


def test_the_table_is_read_whole() -> None:
    assert len(TABLE) == 43
    assert sum(len(fields.split()) for _, fields in TABLE) == FIELDS.count("=")


@pytest.mark.parametrize(("name", "fields"), TABLE, ids=[name for name, _ in TABLE])
def test_a_message_has_the_fields_of_the_specification(name: str, fields: str) -> None:
    message = MESSAGES[name]
    for entry in fields.split():
        found = re.fullmatch(r"(\w+)=(\d+)(?::(R?)(\??)(\w*))?", entry)
        assert found is not None, entry
        field = message.fields_by_name[found[1]]
        assert field.number == int(found[2]), entry
        if found[3]:
            assert field.is_repeated, entry
        if found[4]:
            assert field.has_presence, entry
        if found[5]:
            assert field.type == SCALARS[found[5]], entry


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_counts_its_values_from_zero(name: str) -> None:
    enums: dict[str, EnumDescriptor] = dict(bidding_auction_servers_pb2.DESCRIPTOR.enum_types_by_name)
    for message in MESSAGES.values():
        enums |= message.enum_types_by_name

    assert {value.name: value.number for value in enums[name].values} == {
        value: number for number, value in enumerate(ENUMS[name].split())
    }


def test_packages_and_rpcs_have_their_names() -> None:
    assert {file: file.DESCRIPTOR.package for file in PACKAGES} == PACKAGES
    services = bidding_auction_servers_pb2.DESCRIPTOR.services_by_name
    assert {name: set(service.methods_by_name) for name, service in services.items()} == RPCS
    (key_value,) = kv_server_v2_pb2.DESCRIPTOR.services_by_name.values()
    assert set(key_value.methods_by_name) == {"GetValues", "GetValuesHttp", "ObliviousGetValues"}
    (inference,) = inference_pb2.DESCRIPTOR.services_by_name.values()
    names = {"Predict", "PredictBatch", "RegisterModel", "DeleteModel", "GetModelPaths"}
    assert set(inference.methods_by_name) == names
