from adyton.protocol.messages import server_common_pb2 as _server_common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLIENT_TYPE_UNKNOWN: _ClassVar[ClientType]
    CLIENT_TYPE_ANDROID: _ClassVar[ClientType]
    CLIENT_TYPE_BROWSER: _ClassVar[ClientType]

class AdType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AD_TYPE_UNKNOWN: _ClassVar[AdType]
    AD_TYPE_PROTECTED_AUDIENCE_AD: _ClassVar[AdType]
    AD_TYPE_PROTECTED_APP_SIGNALS_AD: _ClassVar[AdType]

class CompressionAlgorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_ALGORITHM_UNKNOWN: _ClassVar[CompressionAlgorithm]
    COMPRESSION_ALGORITHM_GZIP: _ClassVar[CompressionAlgorithm]

class EncryptionCloudPlatform(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCRYPTION_CLOUD_PLATFORM_UNSPECIFIED: _ClassVar[EncryptionCloudPlatform]
    ENCRYPTION_CLOUD_PLATFORM_AWS: _ClassVar[EncryptionCloudPlatform]
    ENCRYPTION_CLOUD_PLATFORM_GCP: _ClassVar[EncryptionCloudPlatform]

class AuctionScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUCTION_SCOPE_SINGLE_SELLER: _ClassVar[AuctionScope]
    AUCTION_SCOPE_DEVICE_COMPONENT_MULTI_SELLER: _ClassVar[AuctionScope]
    AUCTION_SCOPE_SERVER_COMPONENT_MULTI_SELLER: _ClassVar[AuctionScope]
    AUCTION_SCOPE_SERVER_TOP_LEVEL_SELLER: _ClassVar[AuctionScope]

class SellerRejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SELLER_REJECTION_REASON_NOT_AVAILABLE: _ClassVar[SellerRejectionReason]
    INVALID_BID: _ClassVar[SellerRejectionReason]
    BID_BELOW_AUCTION_FLOOR: _ClassVar[SellerRejectionReason]
    PENDING_APPROVAL_BY_EXCHANGE: _ClassVar[SellerRejectionReason]
    DISAPPROVED_BY_EXCHANGE: _ClassVar[SellerRejectionReason]
    BLOCKED_BY_PUBLISHER: _ClassVar[SellerRejectionReason]
    LANGUAGE_EXCLUSIONS: _ClassVar[SellerRejectionReason]
    CATEGORY_EXCLUSIONS: _ClassVar[SellerRejectionReason]
    DID_NOT_MEET_THE_KANONYMITY_THRESHOLD: _ClassVar[SellerRejectionReason]
    BID_FROM_GENERATE_BID_FAILED_CURRENCY_CHECK: _ClassVar[SellerRejectionReason]
    BID_FROM_SCORE_AD_FAILED_CURRENCY_CHECK: _ClassVar[SellerRejectionReason]
CLIENT_TYPE_UNKNOWN: ClientType
CLIENT_TYPE_ANDROID: ClientType
CLIENT_TYPE_BROWSER: ClientType
AD_TYPE_UNKNOWN: AdType
AD_TYPE_PROTECTED_AUDIENCE_AD: AdType
AD_TYPE_PROTECTED_APP_SIGNALS_AD: AdType
COMPRESSION_ALGORITHM_UNKNOWN: CompressionAlgorithm
COMPRESSION_ALGORITHM_GZIP: CompressionAlgorithm
ENCRYPTION_CLOUD_PLATFORM_UNSPECIFIED: EncryptionCloudPlatform
ENCRYPTION_CLOUD_PLATFORM_AWS: EncryptionCloudPlatform
ENCRYPTION_CLOUD_PLATFORM_GCP: EncryptionCloudPlatform
AUCTION_SCOPE_SINGLE_SELLER: AuctionScope
AUCTION_SCOPE_DEVICE_COMPONENT_MULTI_SELLER: AuctionScope
AUCTION_SCOPE_SERVER_COMPONENT_MULTI_SELLER: AuctionScope
AUCTION_SCOPE_SERVER_TOP_LEVEL_SELLER: AuctionScope
SELLER_REJECTION_REASON_NOT_AVAILABLE: SellerRejectionReason
INVALID_BID: SellerRejectionReason
BID_BELOW_AUCTION_FLOOR: SellerRejectionReason
PENDING_APPROVAL_BY_EXCHANGE: SellerRejectionReason
DISAPPROVED_BY_EXCHANGE: SellerRejectionReason
BLOCKED_BY_PUBLISHER: SellerRejectionReason
LANGUAGE_EXCLUSIONS: SellerRejectionReason
CATEGORY_EXCLUSIONS: SellerRejectionReason
DID_NOT_MEET_THE_KANONYMITY_THRESHOLD: SellerRejectionReason
BID_FROM_GENERATE_BID_FAILED_CURRENCY_CHECK: SellerRejectionReason
BID_FROM_SCORE_AD_FAILED_CURRENCY_CHECK: SellerRejectionReason

class ForDebuggingOnlyFlags(_message.Message):
    __slots__ = ("enable_sampled_debug_reporting", "in_cooldown_or_lockout")
    ENABLE_SAMPLED_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
    IN_COOLDOWN_OR_LOCKOUT_FIELD_NUMBER: _ClassVar[int]
    enable_sampled_debug_reporting: bool
    in_cooldown_or_lockout: bool
    def __init__(self, enable_sampled_debug_reporting: _Optional[bool] = ..., in_cooldown_or_lockout: _Optional[bool] = ...) -> None: ...

class ProtectedAuctionInput(_message.Message):
    __slots__ = ("buyer_input", "publisher_name", "enable_debug_reporting", "generation_id", "consented_debug_config", "enable_unlimited_egress", "request_timestamp_ms", "num_k_anon_ghost_winners", "enforce_kanon", "prod_debug", "fdo_flags")
    class BuyerInputEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    BUYER_INPUT_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_NAME_FIELD_NUMBER: _ClassVar[int]
    ENABLE_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONSENTED_DEBUG_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ENABLE_UNLIMITED_EGRESS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    NUM_K_ANON_GHOST_WINNERS_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_KANON_FIELD_NUMBER: _ClassVar[int]
    PROD_DEBUG_FIELD_NUMBER: _ClassVar[int]
    FDO_FLAGS_FIELD_NUMBER: _ClassVar[int]
    buyer_input: _containers.ScalarMap[str, bytes]
    publisher_name: str
    enable_debug_reporting: bool
    generation_id: str
    consented_debug_config: _server_common_pb2.ConsentedDebugConfiguration
    enable_unlimited_egress: bool
    request_timestamp_ms: int
    num_k_anon_ghost_winners: int
    enforce_kanon: bool
    prod_debug: bool
    fdo_flags: ForDebuggingOnlyFlags
    def __init__(self, buyer_input: _Optional[_Mapping[str, bytes]] = ..., publisher_name: _Optional[str] = ..., enable_debug_reporting: _Optional[bool] = ..., generation_id: _Optional[str] = ..., consented_debug_config: _Optional[_Union[_server_common_pb2.ConsentedDebugConfiguration, _Mapping]] = ..., enable_unlimited_egress: _Optional[bool] = ..., request_timestamp_ms: _Optional[int] = ..., num_k_anon_ghost_winners: _Optional[int] = ..., enforce_kanon: _Optional[bool] = ..., prod_debug: _Optional[bool] = ..., fdo_flags: _Optional[_Union[ForDebuggingOnlyFlags, _Mapping]] = ...) -> None: ...

class ProtectedAppSignals(_message.Message):
    __slots__ = ("app_install_signals", "encoding_version")
    APP_INSTALL_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_VERSION_FIELD_NUMBER: _ClassVar[int]
    app_install_signals: bytes
    encoding_version: int
    def __init__(self, app_install_signals: _Optional[bytes] = ..., encoding_version: _Optional[int] = ...) -> None: ...

class BuyerInput(_message.Message):
    __slots__ = ("interest_groups", "protected_app_signals", "in_cooldown_or_lockout")
    class InterestGroup(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    INTEREST_GROUPS_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_APP_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    IN_COOLDOWN_OR_LOCKOUT_FIELD_NUMBER: _ClassVar[int]
    interest_groups: _containers.RepeatedCompositeFieldContainer[BuyerInput.InterestGroup]
    protected_app_signals: ProtectedAppSignals
    in_cooldown_or_lockout: bool
    def __init__(self, interest_groups: _Optional[_Iterable[_Union[BuyerInput.InterestGroup, _Mapping]]] = ..., protected_app_signals: _Optional[_Union[ProtectedAppSignals, _Mapping]] = ..., in_cooldown_or_lockout: _Optional[bool] = ...) -> None: ...

class WinReportingUrls(_message.Message):
    __slots__ = ("buyer_reporting_urls", "component_seller_reporting_urls", "top_level_seller_reporting_urls")
    class ReportingUrls(_message.Message):
        __slots__ = ("reporting_url", "interaction_reporting_urls")
        class InteractionReportingUrlsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        REPORTING_URL_FIELD_NUMBER: _ClassVar[int]
        INTERACTION_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
        reporting_url: str
        interaction_reporting_urls: _containers.ScalarMap[str, str]
        def __init__(self, reporting_url: _Optional[str] = ..., interaction_reporting_urls: _Optional[_Mapping[str, str]] = ...) -> None: ...
    BUYER_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_SELLER_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
    TOP_LEVEL_SELLER_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
    buyer_reporting_urls: WinReportingUrls.ReportingUrls
    component_seller_reporting_urls: WinReportingUrls.ReportingUrls
    top_level_seller_reporting_urls: WinReportingUrls.ReportingUrls
    def __init__(self, buyer_reporting_urls: _Optional[_Union[WinReportingUrls.ReportingUrls, _Mapping]] = ..., component_seller_reporting_urls: _Optional[_Union[WinReportingUrls.ReportingUrls, _Mapping]] = ..., top_level_seller_reporting_urls: _Optional[_Union[WinReportingUrls.ReportingUrls, _Mapping]] = ...) -> None: ...

class DebugReports(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuctionResult(_message.Message):
    __slots__ = ("ad_render_url", "ad_component_render_urls", "interest_group_name", "interest_group_owner", "score", "bid", "is_chaff", "win_reporting_urls", "bidding_groups", "error", "interest_group_origin", "ad_type", "top_level_seller", "ad_metadata", "bid_currency", "auction_params", "buyer_reporting_id", "buyer_and_seller_reporting_id", "k_anon_winner_join_candidates", "k_anon_winner_positional_index", "k_anon_ghost_winners", "top_level_contributions", "update_groups", "selected_buyer_and_seller_reporting_id", "adtech_origin_debug_urls_map")
    class InterestGroupIndex(_message.Message):
        __slots__ = ("index",)
        INDEX_FIELD_NUMBER: _ClassVar[int]
        index: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, index: _Optional[_Iterable[int]] = ...) -> None: ...
    class Error(_message.Message):
        __slots__ = ("code", "message")
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        code: int
        message: str
        def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...
    class AuctionParams(_message.Message):
        __slots__ = ("ciphertext_generation_id", "component_seller")
        CIPHERTEXT_GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
        COMPONENT_SELLER_FIELD_NUMBER: _ClassVar[int]
        ciphertext_generation_id: str
        component_seller: str
        def __init__(self, ciphertext_generation_id: _Optional[str] = ..., component_seller: _Optional[str] = ...) -> None: ...
    class KAnonJoinCandidate(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class KAnonGhostWinner(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class PrivateAggregationContribution(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class UpdateGroups(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class BiddingGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AuctionResult.InterestGroupIndex
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AuctionResult.InterestGroupIndex, _Mapping]] = ...) -> None: ...
    class UpdateGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AuctionResult.UpdateGroups
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AuctionResult.UpdateGroups, _Mapping]] = ...) -> None: ...
    class AdtechOriginDebugUrlsMapEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: DebugReports
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[DebugReports, _Mapping]] = ...) -> None: ...
    AD_RENDER_URL_FIELD_NUMBER: _ClassVar[int]
    AD_COMPONENT_RENDER_URLS_FIELD_NUMBER: _ClassVar[int]
    INTEREST_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    INTEREST_GROUP_OWNER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    IS_CHAFF_FIELD_NUMBER: _ClassVar[int]
    WIN_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
    BIDDING_GROUPS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INTEREST_GROUP_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    AD_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOP_LEVEL_SELLER_FIELD_NUMBER: _ClassVar[int]
    AD_METADATA_FIELD_NUMBER: _ClassVar[int]
    BID_CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AUCTION_PARAMS_FIELD_NUMBER: _ClassVar[int]
    BUYER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
    BUYER_AND_SELLER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
    K_ANON_WINNER_JOIN_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    K_ANON_WINNER_POSITIONAL_INDEX_FIELD_NUMBER: _ClassVar[int]
    K_ANON_GHOST_WINNERS_FIELD_NUMBER: _ClassVar[int]
    TOP_LEVEL_CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    SELECTED_BUYER_AND_SELLER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
    ADTECH_ORIGIN_DEBUG_URLS_MAP_FIELD_NUMBER: _ClassVar[int]
    ad_render_url: str
    ad_component_render_urls: _containers.RepeatedScalarFieldContainer[str]
    interest_group_name: str
    interest_group_owner: str
    score: float
    bid: float
    is_chaff: bool
    win_reporting_urls: WinReportingUrls
    bidding_groups: _containers.MessageMap[str, AuctionResult.InterestGroupIndex]
    error: AuctionResult.Error
    interest_group_origin: str
    ad_type: AdType
    top_level_seller: str
    ad_metadata: str
    bid_currency: str
    auction_params: AuctionResult.AuctionParams
    buyer_reporting_id: str
    buyer_and_seller_reporting_id: str
    k_anon_winner_join_candidates: AuctionResult.KAnonJoinCandidate
    k_anon_winner_positional_index: int
    k_anon_ghost_winners: _containers.RepeatedCompositeFieldContainer[AuctionResult.KAnonGhostWinner]
    top_level_contributions: _containers.RepeatedCompositeFieldContainer[AuctionResult.PrivateAggregationContribution]
    update_groups: _containers.MessageMap[str, AuctionResult.UpdateGroups]
    selected_buyer_and_seller_reporting_id: str
    adtech_origin_debug_urls_map: _containers.MessageMap[str, DebugReports]
    def __init__(self, ad_render_url: _Optional[str] = ..., ad_component_render_urls: _Optional[_Iterable[str]] = ..., interest_group_name: _Optional[str] = ..., interest_group_owner: _Optional[str] = ..., score: _Optional[float] = ..., bid: _Optional[float] = ..., is_chaff: _Optional[bool] = ..., win_reporting_urls: _Optional[_Union[WinReportingUrls, _Mapping]] = ..., bidding_groups: _Optional[_Mapping[str, AuctionResult.InterestGroupIndex]] = ..., error: _Optional[_Union[AuctionResult.Error, _Mapping]] = ..., interest_group_origin: _Optional[str] = ..., ad_type: _Optional[_Union[AdType, str]] = ..., top_level_seller: _Optional[str] = ..., ad_metadata: _Optional[str] = ..., bid_currency: _Optional[str] = ..., auction_params: _Optional[_Union[AuctionResult.AuctionParams, _Mapping]] = ..., buyer_reporting_id: _Optional[str] = ..., buyer_and_seller_reporting_id: _Optional[str] = ..., k_anon_winner_join_candidates: _Optional[_Union[AuctionResult.KAnonJoinCandidate, _Mapping]] = ..., k_anon_winner_positional_index: _Optional[int] = ..., k_anon_ghost_winners: _Optional[_Iterable[_Union[AuctionResult.KAnonGhostWinner, _Mapping]]] = ..., top_level_contributions: _Optional[_Iterable[_Union[AuctionResult.PrivateAggregationContribution, _Mapping]]] = ..., update_groups: _Optional[_Mapping[str, AuctionResult.UpdateGroups]] = ..., selected_buyer_and_seller_reporting_id: _Optional[str] = ..., adtech_origin_debug_urls_map: _Optional[_Mapping[str, DebugReports]] = ...) -> None: ...

class ContextualProtectedAppSignalsData(_message.Message):
    __slots__ = ("ad_render_ids", "fetch_ads_from_retrieval_service")
    AD_RENDER_IDS_FIELD_NUMBER: _ClassVar[int]
    FETCH_ADS_FROM_RETRIEVAL_SERVICE_FIELD_NUMBER: _ClassVar[int]
    ad_render_ids: _containers.RepeatedScalarFieldContainer[str]
    fetch_ads_from_retrieval_service: bool
    def __init__(self, ad_render_ids: _Optional[_Iterable[str]] = ..., fetch_ads_from_retrieval_service: _Optional[bool] = ...) -> None: ...

class BuyerBlobVersions(_message.Message):
    __slots__ = ("protected_audience_generate_bid_udf", "protected_app_signals_generate_bid_udf", "prepare_data_for_ad_retrieval_udf", "egress_schema", "temporary_unlimited_egress_schema")
    PROTECTED_AUDIENCE_GENERATE_BID_UDF_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_APP_SIGNALS_GENERATE_BID_UDF_FIELD_NUMBER: _ClassVar[int]
    PREPARE_DATA_FOR_AD_RETRIEVAL_UDF_FIELD_NUMBER: _ClassVar[int]
    EGRESS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    TEMPORARY_UNLIMITED_EGRESS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    protected_audience_generate_bid_udf: str
    protected_app_signals_generate_bid_udf: str
    prepare_data_for_ad_retrieval_udf: str
    egress_schema: str
    temporary_unlimited_egress_schema: str
    def __init__(self, protected_audience_generate_bid_udf: _Optional[str] = ..., protected_app_signals_generate_bid_udf: _Optional[str] = ..., prepare_data_for_ad_retrieval_udf: _Optional[str] = ..., egress_schema: _Optional[str] = ..., temporary_unlimited_egress_schema: _Optional[str] = ...) -> None: ...

class AuctionConfig(_message.Message):
    __slots__ = ("seller_signals", "auction_signals", "buyer_list", "seller", "per_buyer_config", "code_experiment_spec", "seller_debug_id", "buyer_timeout_ms", "top_level_seller", "seller_currency", "top_level_cloud_platform", "per_component_seller_config", "priority_signals", "ad_auction_result_nonce")
    class PerBuyerConfig(_message.Message):
        __slots__ = ("buyer_signals", "buyer_kv_experiment_group_id", "buyer_debug_id", "buyer_currency", "contextual_protected_app_signals_data", "per_buyer_multi_bid_limit", "priority_signals_overrides", "blob_versions")
        BUYER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        BUYER_KV_EXPERIMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
        BUYER_DEBUG_ID_FIELD_NUMBER: _ClassVar[int]
        BUYER_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        CONTEXTUAL_PROTECTED_APP_SIGNALS_DATA_FIELD_NUMBER: _ClassVar[int]
        PER_BUYER_MULTI_BID_LIMIT_FIELD_NUMBER: _ClassVar[int]
        PRIORITY_SIGNALS_OVERRIDES_FIELD_NUMBER: _ClassVar[int]
        BLOB_VERSIONS_FIELD_NUMBER: _ClassVar[int]
        buyer_signals: str
        buyer_kv_experiment_group_id: int
        buyer_debug_id: str
        buyer_currency: str
        contextual_protected_app_signals_data: ContextualProtectedAppSignalsData
        per_buyer_multi_bid_limit: int
        priority_signals_overrides: str
        blob_versions: BuyerBlobVersions
        def __init__(self, buyer_signals: _Optional[str] = ..., buyer_kv_experiment_group_id: _Optional[int] = ..., buyer_debug_id: _Optional[str] = ..., buyer_currency: _Optional[str] = ..., contextual_protected_app_signals_data: _Optional[_Union[ContextualProtectedAppSignalsData, _Mapping]] = ..., per_buyer_multi_bid_limit: _Optional[int] = ..., priority_signals_overrides: _Optional[str] = ..., blob_versions: _Optional[_Union[BuyerBlobVersions, _Mapping]] = ...) -> None: ...
    class CodeExperimentSpecification(_message.Message):
        __slots__ = ("seller_kv_experiment_group_id", "score_ad_version")
        SELLER_KV_EXPERIMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
        SCORE_AD_VERSION_FIELD_NUMBER: _ClassVar[int]
        seller_kv_experiment_group_id: int
        score_ad_version: str
        def __init__(self, seller_kv_experiment_group_id: _Optional[int] = ..., score_ad_version: _Optional[str] = ...) -> None: ...
    class PerComponentSellerConfig(_message.Message):
        __slots__ = ("expected_currency",)
        EXPECTED_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        expected_currency: str
        def __init__(self, expected_currency: _Optional[str] = ...) -> None: ...
    class PerBuyerConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AuctionConfig.PerBuyerConfig
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AuctionConfig.PerBuyerConfig, _Mapping]] = ...) -> None: ...
    class PerComponentSellerConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AuctionConfig.PerComponentSellerConfig
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AuctionConfig.PerComponentSellerConfig, _Mapping]] = ...) -> None: ...
    SELLER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    AUCTION_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    BUYER_LIST_FIELD_NUMBER: _ClassVar[int]
    SELLER_FIELD_NUMBER: _ClassVar[int]
    PER_BUYER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    CODE_EXPERIMENT_SPEC_FIELD_NUMBER: _ClassVar[int]
    SELLER_DEBUG_ID_FIELD_NUMBER: _ClassVar[int]
    BUYER_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TOP_LEVEL_SELLER_FIELD_NUMBER: _ClassVar[int]
    SELLER_CURRENCY_FIELD_NUMBER: _ClassVar[int]
    TOP_LEVEL_CLOUD_PLATFORM_FIELD_NUMBER: _ClassVar[int]
    PER_COMPONENT_SELLER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    AD_AUCTION_RESULT_NONCE_FIELD_NUMBER: _ClassVar[int]
    seller_signals: str
    auction_signals: str
    buyer_list: _containers.RepeatedScalarFieldContainer[str]
    seller: str
    per_buyer_config: _containers.MessageMap[str, AuctionConfig.PerBuyerConfig]
    code_experiment_spec: AuctionConfig.CodeExperimentSpecification
    seller_debug_id: str
    buyer_timeout_ms: int
    top_level_seller: str
    seller_currency: str
    top_level_cloud_platform: EncryptionCloudPlatform
    per_component_seller_config: _containers.MessageMap[str, AuctionConfig.PerComponentSellerConfig]
    priority_signals: str
    ad_auction_result_nonce: str
    def __init__(self, seller_signals: _Optional[str] = ..., auction_signals: _Optional[str] = ..., buyer_list: _Optional[_Iterable[str]] = ..., seller: _Optional[str] = ..., per_buyer_config: _Optional[_Mapping[str, AuctionConfig.PerBuyerConfig]] = ..., code_experiment_spec: _Optional[_Union[AuctionConfig.CodeExperimentSpecification, _Mapping]] = ..., seller_debug_id: _Optional[str] = ..., buyer_timeout_ms: _Optional[int] = ..., top_level_seller: _Optional[str] = ..., seller_currency: _Optional[str] = ..., top_level_cloud_platform: _Optional[_Union[EncryptionCloudPlatform, str]] = ..., per_component_seller_config: _Optional[_Mapping[str, AuctionConfig.PerComponentSellerConfig]] = ..., priority_signals: _Optional[str] = ..., ad_auction_result_nonce: _Optional[str] = ...) -> None: ...

class SelectAdRequest(_message.Message):
    __slots__ = ("protected_audience_ciphertext", "auction_config", "client_type", "protected_auction_ciphertext", "component_auction_results", "compressed_auction_config")
    class ComponentAuctionResult(_message.Message):
        __slots__ = ("auction_result_ciphertext", "key_id")
        AUCTION_RESULT_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
        KEY_ID_FIELD_NUMBER: _ClassVar[int]
        auction_result_ciphertext: bytes
        key_id: str
        def __init__(self, auction_result_ciphertext: _Optional[bytes] = ..., key_id: _Optional[str] = ...) -> None: ...
    class CompressedAuctionConfig(_message.Message):
        __slots__ = ("compression_algorithm", "auction_config")
        COMPRESSION_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
        AUCTION_CONFIG_FIELD_NUMBER: _ClassVar[int]
        compression_algorithm: CompressionAlgorithm
        auction_config: bytes
        def __init__(self, compression_algorithm: _Optional[_Union[CompressionAlgorithm, str]] = ..., auction_config: _Optional[bytes] = ...) -> None: ...
    PROTECTED_AUDIENCE_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    AUCTION_CONFIG_FIELD_NUMBER: _ClassVar[int]
    CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROTECTED_AUCTION_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_AUCTION_RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_AUCTION_CONFIG_FIELD_NUMBER: _ClassVar[int]
    protected_audience_ciphertext: bytes
    auction_config: AuctionConfig
    client_type: ClientType
    protected_auction_ciphertext: bytes
    component_auction_results: _containers.RepeatedCompositeFieldContainer[SelectAdRequest.ComponentAuctionResult]
    compressed_auction_config: SelectAdRequest.CompressedAuctionConfig
    def __init__(self, protected_audience_ciphertext: _Optional[bytes] = ..., auction_config: _Optional[_Union[AuctionConfig, _Mapping]] = ..., client_type: _Optional[_Union[ClientType, str]] = ..., protected_auction_ciphertext: _Optional[bytes] = ..., component_auction_results: _Optional[_Iterable[_Union[SelectAdRequest.ComponentAuctionResult, _Mapping]]] = ..., compressed_auction_config: _Optional[_Union[SelectAdRequest.CompressedAuctionConfig, _Mapping]] = ...) -> None: ...

class SelectAdResponse(_message.Message):
    __slots__ = ("auction_result_ciphertext", "debug_info", "key_id")
    AUCTION_RESULT_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    auction_result_ciphertext: bytes
    debug_info: _server_common_pb2.DebugInfo
    key_id: str
    def __init__(self, auction_result_ciphertext: _Optional[bytes] = ..., debug_info: _Optional[_Union[_server_common_pb2.DebugInfo, _Mapping]] = ..., key_id: _Optional[str] = ...) -> None: ...

class ProtectedAppSignalsBuyerInput(_message.Message):
    __slots__ = ("protected_app_signals", "contextual_protected_app_signals_data")
    PROTECTED_APP_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    CONTEXTUAL_PROTECTED_APP_SIGNALS_DATA_FIELD_NUMBER: _ClassVar[int]
    protected_app_signals: ProtectedAppSignals
    contextual_protected_app_signals_data: ContextualProtectedAppSignalsData
    def __init__(self, protected_app_signals: _Optional[_Union[ProtectedAppSignals, _Mapping]] = ..., contextual_protected_app_signals_data: _Optional[_Union[ContextualProtectedAppSignalsData, _Mapping]] = ...) -> None: ...

class GetBidsRequest(_message.Message):
    __slots__ = ("request_ciphertext", "key_id")
    class GetBidsRawRequest(_message.Message):
        __slots__ = ("is_chaff", "buyer_input", "auction_signals", "buyer_signals", "seller", "publisher_name", "enable_debug_reporting", "log_context", "consented_debug_config", "protected_app_signals_buyer_input", "client_type", "top_level_seller", "buyer_kv_experiment_group_id", "enable_unlimited_egress", "multi_bid_limit", "enforce_kanon", "is_debug_eligible", "priority_signals", "blob_versions", "buyer_input_for_bidding", "enable_sampled_debug_reporting")
        class BuyerInputForBidding(_message.Message):
            __slots__ = ()
            def __init__(self) -> None: ...
        IS_CHAFF_FIELD_NUMBER: _ClassVar[int]
        BUYER_INPUT_FIELD_NUMBER: _ClassVar[int]
        AUCTION_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        BUYER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        SELLER_FIELD_NUMBER: _ClassVar[int]
        PUBLISHER_NAME_FIELD_NUMBER: _ClassVar[int]
        ENABLE_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
        LOG_CONTEXT_FIELD_NUMBER: _ClassVar[int]
        CONSENTED_DEBUG_CONFIG_FIELD_NUMBER: _ClassVar[int]
        PROTECTED_APP_SIGNALS_BUYER_INPUT_FIELD_NUMBER: _ClassVar[int]
        CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
        TOP_LEVEL_SELLER_FIELD_NUMBER: _ClassVar[int]
        BUYER_KV_EXPERIMENT_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
        ENABLE_UNLIMITED_EGRESS_FIELD_NUMBER: _ClassVar[int]
        MULTI_BID_LIMIT_FIELD_NUMBER: _ClassVar[int]
        ENFORCE_KANON_FIELD_NUMBER: _ClassVar[int]
        IS_DEBUG_ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
        PRIORITY_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        BLOB_VERSIONS_FIELD_NUMBER: _ClassVar[int]
        BUYER_INPUT_FOR_BIDDING_FIELD_NUMBER: _ClassVar[int]
        ENABLE_SAMPLED_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
        is_chaff: bool
        buyer_input: BuyerInput
        auction_signals: str
        buyer_signals: str
        seller: str
        publisher_name: str
        enable_debug_reporting: bool
        log_context: _server_common_pb2.LogContext
        consented_debug_config: _server_common_pb2.ConsentedDebugConfiguration
        protected_app_signals_buyer_input: ProtectedAppSignalsBuyerInput
        client_type: ClientType
        top_level_seller: str
        buyer_kv_experiment_group_id: int
        enable_unlimited_egress: bool
        multi_bid_limit: int
        enforce_kanon: bool
        is_debug_eligible: bool
        priority_signals: str
        blob_versions: BuyerBlobVersions
        buyer_input_for_bidding: GetBidsRequest.GetBidsRawRequest.BuyerInputForBidding
        enable_sampled_debug_reporting: bool
        def __init__(self, is_chaff: _Optional[bool] = ..., buyer_input: _Optional[_Union[BuyerInput, _Mapping]] = ..., auction_signals: _Optional[str] = ..., buyer_signals: _Optional[str] = ..., seller: _Optional[str] = ..., publisher_name: _Optional[str] = ..., enable_debug_reporting: _Optional[bool] = ..., log_context: _Optional[_Union[_server_common_pb2.LogContext, _Mapping]] = ..., consented_debug_config: _Optional[_Union[_server_common_pb2.ConsentedDebugConfiguration, _Mapping]] = ..., protected_app_signals_buyer_input: _Optional[_Union[ProtectedAppSignalsBuyerInput, _Mapping]] = ..., client_type: _Optional[_Union[ClientType, str]] = ..., top_level_seller: _Optional[str] = ..., buyer_kv_experiment_group_id: _Optional[int] = ..., enable_unlimited_egress: _Optional[bool] = ..., multi_bid_limit: _Optional[int] = ..., enforce_kanon: _Optional[bool] = ..., is_debug_eligible: _Optional[bool] = ..., priority_signals: _Optional[str] = ..., blob_versions: _Optional[_Union[BuyerBlobVersions, _Mapping]] = ..., buyer_input_for_bidding: _Optional[_Union[GetBidsRequest.GetBidsRawRequest.BuyerInputForBidding, _Mapping]] = ..., enable_sampled_debug_reporting: _Optional[bool] = ...) -> None: ...
    REQUEST_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_ciphertext: bytes
    key_id: str
    def __init__(self, request_ciphertext: _Optional[bytes] = ..., key_id: _Optional[str] = ...) -> None: ...

class AdWithBid(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UpdateInterestGroupList(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBidsResponse(_message.Message):
    __slots__ = ("response_ciphertext",)
    class GetBidsRawResponse(_message.Message):
        __slots__ = ("bids", "protected_app_signals_bids", "update_interest_group_list", "debug_info")
        BIDS_FIELD_NUMBER: _ClassVar[int]
        PROTECTED_APP_SIGNALS_BIDS_FIELD_NUMBER: _ClassVar[int]
        UPDATE_INTEREST_GROUP_LIST_FIELD_NUMBER: _ClassVar[int]
        DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
        bids: _containers.RepeatedCompositeFieldContainer[AdWithBid]
        protected_app_signals_bids: _containers.RepeatedCompositeFieldContainer[ProtectedAppSignalsAdWithBid]
        update_interest_group_list: UpdateInterestGroupList
        debug_info: _server_common_pb2.DebugInfo
        def __init__(self, bids: _Optional[_Iterable[_Union[AdWithBid, _Mapping]]] = ..., protected_app_signals_bids: _Optional[_Iterable[_Union[ProtectedAppSignalsAdWithBid, _Mapping]]] = ..., update_interest_group_list: _Optional[_Union[UpdateInterestGroupList, _Mapping]] = ..., debug_info: _Optional[_Union[_server_common_pb2.DebugInfo, _Mapping]] = ...) -> None: ...
    RESPONSE_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    response_ciphertext: bytes
    def __init__(self, response_ciphertext: _Optional[bytes] = ...) -> None: ...

class DebugReportUrls(_message.Message):
    __slots__ = ("auction_debug_win_url", "auction_debug_loss_url")
    AUCTION_DEBUG_WIN_URL_FIELD_NUMBER: _ClassVar[int]
    AUCTION_DEBUG_LOSS_URL_FIELD_NUMBER: _ClassVar[int]
    auction_debug_win_url: str
    auction_debug_loss_url: str
    def __init__(self, auction_debug_win_url: _Optional[str] = ..., auction_debug_loss_url: _Optional[str] = ...) -> None: ...

class ProtectedAppSignalsAdWithBid(_message.Message):
    __slots__ = ("ad", "bid", "render", "ad_cost", "bid_currency", "debug_report_urls", "egress_payload", "temporary_unlimited_egress_payload", "allow_component_auction")
    AD_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    AD_COST_FIELD_NUMBER: _ClassVar[int]
    BID_CURRENCY_FIELD_NUMBER: _ClassVar[int]
    DEBUG_REPORT_URLS_FIELD_NUMBER: _ClassVar[int]
    EGRESS_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TEMPORARY_UNLIMITED_EGRESS_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ALLOW_COMPONENT_AUCTION_FIELD_NUMBER: _ClassVar[int]
    ad: _struct_pb2.Value
    bid: float
    render: str
    ad_cost: float
    bid_currency: str
    debug_report_urls: DebugReportUrls
    egress_payload: str
    temporary_unlimited_egress_payload: str
    allow_component_auction: bool
    def __init__(self, ad: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., bid: _Optional[float] = ..., render: _Optional[str] = ..., ad_cost: _Optional[float] = ..., bid_currency: _Optional[str] = ..., debug_report_urls: _Optional[_Union[DebugReportUrls, _Mapping]] = ..., egress_payload: _Optional[str] = ..., temporary_unlimited_egress_payload: _Optional[str] = ..., allow_component_auction: _Optional[bool] = ...) -> None: ...

class GenerateProtectedAppSignalsBidsRequest(_message.Message):
    __slots__ = ("request_ciphertext", "key_id")
    class GenerateProtectedAppSignalsBidsRawRequest(_message.Message):
        __slots__ = ("auction_signals", "buyer_signals", "protected_app_signals", "seller", "publisher_name", "log_context", "consented_debug_config", "enable_debug_reporting", "contextual_protected_app_signals_data", "enable_unlimited_egress", "multi_bid_limit", "enforce_kanon", "is_sampled_for_debug", "blob_versions", "top_level_seller")
        AUCTION_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        BUYER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        PROTECTED_APP_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        SELLER_FIELD_NUMBER: _ClassVar[int]
        PUBLISHER_NAME_FIELD_NUMBER: _ClassVar[int]
        LOG_CONTEXT_FIELD_NUMBER: _ClassVar[int]
        CONSENTED_DEBUG_CONFIG_FIELD_NUMBER: _ClassVar[int]
        ENABLE_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
        CONTEXTUAL_PROTECTED_APP_SIGNALS_DATA_FIELD_NUMBER: _ClassVar[int]
        ENABLE_UNLIMITED_EGRESS_FIELD_NUMBER: _ClassVar[int]
        MULTI_BID_LIMIT_FIELD_NUMBER: _ClassVar[int]
        ENFORCE_KANON_FIELD_NUMBER: _ClassVar[int]
        IS_SAMPLED_FOR_DEBUG_FIELD_NUMBER: _ClassVar[int]
        BLOB_VERSIONS_FIELD_NUMBER: _ClassVar[int]
        TOP_LEVEL_SELLER_FIELD_NUMBER: _ClassVar[int]
        auction_signals: str
        buyer_signals: str
        protected_app_signals: ProtectedAppSignals
        seller: str
        publisher_name: str
        log_context: _server_common_pb2.LogContext
        consented_debug_config: _server_common_pb2.ConsentedDebugConfiguration
        enable_debug_reporting: bool
        contextual_protected_app_signals_data: ContextualProtectedAppSignalsData
        enable_unlimited_egress: bool
        multi_bid_limit: int
        enforce_kanon: bool
        is_sampled_for_debug: bool
        blob_versions: BuyerBlobVersions
        top_level_seller: str
        def __init__(self, auction_signals: _Optional[str] = ..., buyer_signals: _Optional[str] = ..., protected_app_signals: _Optional[_Union[ProtectedAppSignals, _Mapping]] = ..., seller: _Optional[str] = ..., publisher_name: _Optional[str] = ..., log_context: _Optional[_Union[_server_common_pb2.LogContext, _Mapping]] = ..., consented_debug_config: _Optional[_Union[_server_common_pb2.ConsentedDebugConfiguration, _Mapping]] = ..., enable_debug_reporting: _Optional[bool] = ..., contextual_protected_app_signals_data: _Optional[_Union[ContextualProtectedAppSignalsData, _Mapping]] = ..., enable_unlimited_egress: _Optional[bool] = ..., multi_bid_limit: _Optional[int] = ..., enforce_kanon: _Optional[bool] = ..., is_sampled_for_debug: _Optional[bool] = ..., blob_versions: _Optional[_Union[BuyerBlobVersions, _Mapping]] = ..., top_level_seller: _Optional[str] = ...) -> None: ...
    REQUEST_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_ciphertext: bytes
    key_id: str
    def __init__(self, request_ciphertext: _Optional[bytes] = ..., key_id: _Optional[str] = ...) -> None: ...

class GenerateProtectedAppSignalsBidsResponse(_message.Message):
    __slots__ = ("response_ciphertext",)
    class GenerateProtectedAppSignalsBidsRawResponse(_message.Message):
        __slots__ = ("bids", "bidding_export_debug", "debug_info")
        BIDS_FIELD_NUMBER: _ClassVar[int]
        BIDDING_EXPORT_DEBUG_FIELD_NUMBER: _ClassVar[int]
        DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
        bids: _containers.RepeatedCompositeFieldContainer[ProtectedAppSignalsAdWithBid]
        bidding_export_debug: bool
        debug_info: _server_common_pb2.DebugInfo
        def __init__(self, bids: _Optional[_Iterable[_Union[ProtectedAppSignalsAdWithBid, _Mapping]]] = ..., bidding_export_debug: _Optional[bool] = ..., debug_info: _Optional[_Union[_server_common_pb2.DebugInfo, _Mapping]] = ...) -> None: ...
    RESPONSE_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    response_ciphertext: bytes
    def __init__(self, response_ciphertext: _Optional[bytes] = ...) -> None: ...

class ScoreAdsRequest(_message.Message):
    __slots__ = ("request_ciphertext", "key_id")
    class ScoreAdsRawRequest(_message.Message):
        __slots__ = ("ad_bids", "seller_signals", "auction_signals", "scoring_signals", "publisher_hostname", "enable_debug_reporting", "log_context", "per_buyer_signals", "consented_debug_config", "protected_app_signals_ad_bids", "seller", "top_level_seller", "seller_currency", "component_auction_results", "num_allowed_ghost_winners", "enforce_kanon", "seller_data_version", "is_sampled_for_debug", "score_ad_version", "fdo_flags")
        class AdWithBidMetadata(_message.Message):
            __slots__ = ()
            def __init__(self) -> None: ...
        class ProtectedAppSignalsAdWithBidMetadata(_message.Message):
            __slots__ = ("ad", "bid", "render", "modeling_signals", "ad_cost", "owner", "bid_currency", "egress_payload", "temporary_unlimited_egress_payload", "k_anon_status")
            AD_FIELD_NUMBER: _ClassVar[int]
            BID_FIELD_NUMBER: _ClassVar[int]
            RENDER_FIELD_NUMBER: _ClassVar[int]
            MODELING_SIGNALS_FIELD_NUMBER: _ClassVar[int]
            AD_COST_FIELD_NUMBER: _ClassVar[int]
            OWNER_FIELD_NUMBER: _ClassVar[int]
            BID_CURRENCY_FIELD_NUMBER: _ClassVar[int]
            EGRESS_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
            TEMPORARY_UNLIMITED_EGRESS_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
            K_ANON_STATUS_FIELD_NUMBER: _ClassVar[int]
            ad: _struct_pb2.Value
            bid: float
            render: str
            modeling_signals: int
            ad_cost: float
            owner: str
            bid_currency: str
            egress_payload: str
            temporary_unlimited_egress_payload: str
            k_anon_status: bool
            def __init__(self, ad: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., bid: _Optional[float] = ..., render: _Optional[str] = ..., modeling_signals: _Optional[int] = ..., ad_cost: _Optional[float] = ..., owner: _Optional[str] = ..., bid_currency: _Optional[str] = ..., egress_payload: _Optional[str] = ..., temporary_unlimited_egress_payload: _Optional[str] = ..., k_anon_status: _Optional[bool] = ...) -> None: ...
        class PerBuyerSignalsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        AD_BIDS_FIELD_NUMBER: _ClassVar[int]
        SELLER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        AUCTION_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        SCORING_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        PUBLISHER_HOSTNAME_FIELD_NUMBER: _ClassVar[int]
        ENABLE_DEBUG_REPORTING_FIELD_NUMBER: _ClassVar[int]
        LOG_CONTEXT_FIELD_NUMBER: _ClassVar[int]
        PER_BUYER_SIGNALS_FIELD_NUMBER: _ClassVar[int]
        CONSENTED_DEBUG_CONFIG_FIELD_NUMBER: _ClassVar[int]
        PROTECTED_APP_SIGNALS_AD_BIDS_FIELD_NUMBER: _ClassVar[int]
        SELLER_FIELD_NUMBER: _ClassVar[int]
        TOP_LEVEL_SELLER_FIELD_NUMBER: _ClassVar[int]
        SELLER_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        COMPONENT_AUCTION_RESULTS_FIELD_NUMBER: _ClassVar[int]
        NUM_ALLOWED_GHOST_WINNERS_FIELD_NUMBER: _ClassVar[int]
        ENFORCE_KANON_FIELD_NUMBER: _ClassVar[int]
        SELLER_DATA_VERSION_FIELD_NUMBER: _ClassVar[int]
        IS_SAMPLED_FOR_DEBUG_FIELD_NUMBER: _ClassVar[int]
        SCORE_AD_VERSION_FIELD_NUMBER: _ClassVar[int]
        FDO_FLAGS_FIELD_NUMBER: _ClassVar[int]
        ad_bids: _containers.RepeatedCompositeFieldContainer[ScoreAdsRequest.ScoreAdsRawRequest.AdWithBidMetadata]
        seller_signals: str
        auction_signals: str
        scoring_signals: str
        publisher_hostname: str
        enable_debug_reporting: bool
        log_context: _server_common_pb2.LogContext
        per_buyer_signals: _containers.ScalarMap[str, str]
        consented_debug_config: _server_common_pb2.ConsentedDebugConfiguration
        protected_app_signals_ad_bids: _containers.RepeatedCompositeFieldContainer[ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata]
        seller: str
        top_level_seller: str
        seller_currency: str
        component_auction_results: _containers.RepeatedCompositeFieldContainer[AuctionResult]
        num_allowed_ghost_winners: int
        enforce_kanon: bool
        seller_data_version: int
        is_sampled_for_debug: bool
        score_ad_version: str
        fdo_flags: ForDebuggingOnlyFlags
        def __init__(self, ad_bids: _Optional[_Iterable[_Union[ScoreAdsRequest.ScoreAdsRawRequest.AdWithBidMetadata, _Mapping]]] = ..., seller_signals: _Optional[str] = ..., auction_signals: _Optional[str] = ..., scoring_signals: _Optional[str] = ..., publisher_hostname: _Optional[str] = ..., enable_debug_reporting: _Optional[bool] = ..., log_context: _Optional[_Union[_server_common_pb2.LogContext, _Mapping]] = ..., per_buyer_signals: _Optional[_Mapping[str, str]] = ..., consented_debug_config: _Optional[_Union[_server_common_pb2.ConsentedDebugConfiguration, _Mapping]] = ..., protected_app_signals_ad_bids: _Optional[_Iterable[_Union[ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata, _Mapping]]] = ..., seller: _Optional[str] = ..., top_level_seller: _Optional[str] = ..., seller_currency: _Optional[str] = ..., component_auction_results: _Optional[_Iterable[_Union[AuctionResult, _Mapping]]] = ..., num_allowed_ghost_winners: _Optional[int] = ..., enforce_kanon: _Optional[bool] = ..., seller_data_version: _Optional[int] = ..., is_sampled_for_debug: _Optional[bool] = ..., score_ad_version: _Optional[str] = ..., fdo_flags: _Optional[_Union[ForDebuggingOnlyFlags, _Mapping]] = ...) -> None: ...
    REQUEST_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_ciphertext: bytes
    key_id: bytes
    def __init__(self, request_ciphertext: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class ScoreAdsResponse(_message.Message):
    __slots__ = ("response_ciphertext",)
    class AdScore(_message.Message):
        __slots__ = ("desirability", "render", "component_renders", "interest_group_name", "buyer_bid", "interest_group_owner", "ad_metadata", "allow_component_auction", "bid", "win_reporting_urls", "debug_report_urls", "ig_owner_highest_scoring_other_bids_map", "ad_rejection_reasons", "ad_type", "incoming_bid_in_seller_currency", "bid_currency", "buyer_bid_currency", "buyer_reporting_id", "buyer_and_seller_reporting_id", "interest_group_origin", "top_level_contributions", "selected_buyer_and_seller_reporting_id", "k_anon_join_candidate", "seller")
        class AdRejectionReason(_message.Message):
            __slots__ = ("interest_group_name", "interest_group_owner", "rejection_reason")
            INTEREST_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
            INTEREST_GROUP_OWNER_FIELD_NUMBER: _ClassVar[int]
            REJECTION_REASON_FIELD_NUMBER: _ClassVar[int]
            interest_group_name: str
            interest_group_owner: str
            rejection_reason: SellerRejectionReason
            def __init__(self, interest_group_name: _Optional[str] = ..., interest_group_owner: _Optional[str] = ..., rejection_reason: _Optional[_Union[SellerRejectionReason, str]] = ...) -> None: ...
        class IgOwnerHighestScoringOtherBidsMapEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: _struct_pb2.ListValue
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ...) -> None: ...
        DESIRABILITY_FIELD_NUMBER: _ClassVar[int]
        RENDER_FIELD_NUMBER: _ClassVar[int]
        COMPONENT_RENDERS_FIELD_NUMBER: _ClassVar[int]
        INTEREST_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        BUYER_BID_FIELD_NUMBER: _ClassVar[int]
        INTEREST_GROUP_OWNER_FIELD_NUMBER: _ClassVar[int]
        AD_METADATA_FIELD_NUMBER: _ClassVar[int]
        ALLOW_COMPONENT_AUCTION_FIELD_NUMBER: _ClassVar[int]
        BID_FIELD_NUMBER: _ClassVar[int]
        WIN_REPORTING_URLS_FIELD_NUMBER: _ClassVar[int]
        DEBUG_REPORT_URLS_FIELD_NUMBER: _ClassVar[int]
        IG_OWNER_HIGHEST_SCORING_OTHER_BIDS_MAP_FIELD_NUMBER: _ClassVar[int]
        AD_REJECTION_REASONS_FIELD_NUMBER: _ClassVar[int]
        AD_TYPE_FIELD_NUMBER: _ClassVar[int]
        INCOMING_BID_IN_SELLER_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        BID_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        BUYER_BID_CURRENCY_FIELD_NUMBER: _ClassVar[int]
        BUYER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
        BUYER_AND_SELLER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
        INTEREST_GROUP_ORIGIN_FIELD_NUMBER: _ClassVar[int]
        TOP_LEVEL_CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
        SELECTED_BUYER_AND_SELLER_REPORTING_ID_FIELD_NUMBER: _ClassVar[int]
        K_ANON_JOIN_CANDIDATE_FIELD_NUMBER: _ClassVar[int]
        SELLER_FIELD_NUMBER: _ClassVar[int]
        desirability: float
        render: str
        component_renders: _containers.RepeatedScalarFieldContainer[str]
        interest_group_name: str
        buyer_bid: float
        interest_group_owner: str
        ad_metadata: str
        allow_component_auction: bool
        bid: float
        win_reporting_urls: WinReportingUrls
        debug_report_urls: DebugReportUrls
        ig_owner_highest_scoring_other_bids_map: _containers.MessageMap[str, _struct_pb2.ListValue]
        ad_rejection_reasons: _containers.RepeatedCompositeFieldContainer[ScoreAdsResponse.AdScore.AdRejectionReason]
        ad_type: AdType
        incoming_bid_in_seller_currency: float
        bid_currency: str
        buyer_bid_currency: str
        buyer_reporting_id: str
        buyer_and_seller_reporting_id: str
        interest_group_origin: str
        top_level_contributions: _containers.RepeatedCompositeFieldContainer[AuctionResult.PrivateAggregationContribution]
        selected_buyer_and_seller_reporting_id: str
        k_anon_join_candidate: AuctionResult.KAnonJoinCandidate
        seller: str
        def __init__(self, desirability: _Optional[float] = ..., render: _Optional[str] = ..., component_renders: _Optional[_Iterable[str]] = ..., interest_group_name: _Optional[str] = ..., buyer_bid: _Optional[float] = ..., interest_group_owner: _Optional[str] = ..., ad_metadata: _Optional[str] = ..., allow_component_auction: _Optional[bool] = ..., bid: _Optional[float] = ..., win_reporting_urls: _Optional[_Union[WinReportingUrls, _Mapping]] = ..., debug_report_urls: _Optional[_Union[DebugReportUrls, _Mapping]] = ..., ig_owner_highest_scoring_other_bids_map: _Optional[_Mapping[str, _struct_pb2.ListValue]] = ..., ad_rejection_reasons: _Optional[_Iterable[_Union[ScoreAdsResponse.AdScore.AdRejectionReason, _Mapping]]] = ..., ad_type: _Optional[_Union[AdType, str]] = ..., incoming_bid_in_seller_currency: _Optional[float] = ..., bid_currency: _Optional[str] = ..., buyer_bid_currency: _Optional[str] = ..., buyer_reporting_id: _Optional[str] = ..., buyer_and_seller_reporting_id: _Optional[str] = ..., interest_group_origin: _Optional[str] = ..., top_level_contributions: _Optional[_Iterable[_Union[AuctionResult.PrivateAggregationContribution, _Mapping]]] = ..., selected_buyer_and_seller_reporting_id: _Optional[str] = ..., k_anon_join_candidate: _Optional[_Union[AuctionResult.KAnonJoinCandidate, _Mapping]] = ..., seller: _Optional[str] = ...) -> None: ...
    class ScoreAdsRawResponse(_message.Message):
        __slots__ = ("ad_score", "ghost_winning_ad_scores", "auction_export_debug", "seller_debug_reports", "debug_info")
        AD_SCORE_FIELD_NUMBER: _ClassVar[int]
        GHOST_WINNING_AD_SCORES_FIELD_NUMBER: _ClassVar[int]
        AUCTION_EXPORT_DEBUG_FIELD_NUMBER: _ClassVar[int]
        SELLER_DEBUG_REPORTS_FIELD_NUMBER: _ClassVar[int]
        DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
        ad_score: ScoreAdsResponse.AdScore
        ghost_winning_ad_scores: _containers.RepeatedCompositeFieldContainer[ScoreAdsResponse.AdScore]
        auction_export_debug: bool
        seller_debug_reports: DebugReports
        debug_info: _server_common_pb2.DebugInfo
        def __init__(self, ad_score: _Optional[_Union[ScoreAdsResponse.AdScore, _Mapping]] = ..., ghost_winning_ad_scores: _Optional[_Iterable[_Union[ScoreAdsResponse.AdScore, _Mapping]]] = ..., auction_export_debug: _Optional[bool] = ..., seller_debug_reports: _Optional[_Union[DebugReports, _Mapping]] = ..., debug_info: _Optional[_Union[_server_common_pb2.DebugInfo, _Mapping]] = ...) -> None: ...
    RESPONSE_CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    response_ciphertext: bytes
    def __init__(self, response_ciphertext: _Optional[bytes] = ...) -> None: ...
