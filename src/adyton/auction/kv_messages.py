"""Requests to the key/value service and what their replies mean (protected-auction §10.2 to §10.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from adyton.auction.errors import DownstreamError, RequestError, UnsupportedError
from adyton.auction.json_values import JsonValue, from_struct, from_value, to_struct, to_value
from adyton.protocol.messages import kv_server_pb2, kv_server_v2_pb2
from adyton.protocol.messages import server_common_pb2 as common

RETRIEVAL_CLIENT_VERSION = "Retrieval.20231018"
SCORING_CLIENT_VERSION = "Bna.PA.Seller.20240930"
RENDER_URLS_TAG = "renderUrls"
UDF_INTERFACE_VERSION = 1
PROTO_CONTENT_TYPE = "message/ad-auction-trusted-signals-request+proto"
JSON_CONTENT_TYPE = "message/ad-auction-trusted-signals-request+json"
CBOR_CONTENT_TYPE = "message/ad-auction-trusted-signals-request"


def retrieval_request(
    *,
    prepared: bytes,
    device_metadata: Mapping[str, str],
    buyer_signals: str,
    ad_render_ids: Sequence[str],
    log_context: common.LogContext | None = None,
    consented_debug_config: common.ConsentedDebugConfiguration | None = None,
) -> kv_server_v2_pb2.GetValuesRequest:
    """The ad-retrieval request of the bidding service: one partition, four untagged arguments (§10.3).

    prepared: JSON text of prepareDataForAdRetrieval's reply, sent as a string.
    ad_render_ids: empty outside hybrid mode; the argument is then there but unset.
    """
    arguments = [
        kv_server_pb2.UDFArgument(data=to_value(prepared.decode())),
        kv_server_pb2.UDFArgument(data=to_value(dict(device_metadata))),
        kv_server_pb2.UDFArgument(data=to_value(buyer_signals)),
        kv_server_pb2.UDFArgument(data=to_value(list(ad_render_ids)) if ad_render_ids else None),
    ]
    return _pas_request(arguments, log_context, consented_debug_config)


def lookup_request(
    ad_render_ids: Sequence[str],
    *,
    log_context: common.LogContext | None = None,
    consented_debug_config: common.ConsentedDebugConfiguration | None = None,
) -> kv_server_v2_pb2.GetValuesRequest:
    """The lookup request of contextual mode: the ad render ids as the one argument (§10.3)."""
    arguments = [kv_server_pb2.UDFArgument(data=to_value(list(ad_render_ids)))]
    return _pas_request(arguments, log_context, consented_debug_config)


def scoring_request(
    render_urls: Iterable[str],
    *,
    client_type: int,
    experiment_group_id: int | None = None,
    log_context: common.LogContext | None = None,
    consented_debug_config: common.ConsentedDebugConfiguration | None = None,
) -> kv_server_v2_pb2.GetValuesRequest:
    """The seller's lookup of scoring signals: one partition for each ad (§10.6)."""
    request = kv_server_v2_pb2.GetValuesRequest(
        client_version=SCORING_CLIENT_VERSION,
        metadata=to_struct(
            {
                "client_type": str(client_type),
                "experiment_group_id": "" if experiment_group_id is None else str(experiment_group_id),
            }
        ),
        log_context=log_context,
        consented_debug_config=consented_debug_config,
    )
    for index, url in enumerate(render_urls):
        partition = request.partitions.add(id=index, compression_group_id=index)
        partition.arguments.add(tags=to_value([RENDER_URLS_TAG]).list_value, data=to_value([url]))
    return request


def ads_of_reply(response: kv_server_v2_pb2.GetValuesResponse) -> str:
    """JSON text of the ads; empty if the script of the service failed, which means that there are no bids."""
    return response.single_partition.string_output


def scoring_signals_of_reply(response: kv_server_v2_pb2.GetValuesResponse) -> str:
    """The reply flattened to `{"renderUrls": {"<url>": <value>}}`; "" if no URL has a value (§10.6).

    A text value that starts with `{` or `[` and is JSON is inserted as JSON. The first value of a URL wins.
    Raises DownstreamError if a group's content is not the documented JSON.
    """
    values: dict[str, JsonValue] = {}
    try:
        for group in response.compression_groups:
            for partition in orjson.loads(group.content):
                for output in partition["keyGroupOutputs"]:
                    if RENDER_URLS_TAG in output["tags"]:
                        for url, entry in output["keyValues"].items():
                            if "value" in entry:
                                values.setdefault(url, _inserted(entry["value"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DownstreamError("the key/value service sent a reply of unknown shape", code="INTERNAL") from error
    return orjson.dumps({RENDER_URLS_TAG: values}).decode() if values else ""


def check_request(request: kv_server_v2_pb2.GetValuesRequest) -> None:
    """The service's own checks of a request (§10.4).

    Raises DownstreamError (no partitions; INTERNAL by the specification), UnsupportedError (is_pas with several) and
    RequestError (the same partition twice).
    """
    if not request.partitions:
        raise DownstreamError("At least 1 partition is required", code="INTERNAL")
    if is_pas(request) and len(request.partitions) > 1:
        raise UnsupportedError("This use case only accepts single partitions, but multiple partitions were found.")
    seen = set()
    for partition in request.partitions:
        key = (partition.id, partition.compression_group_id)
        if key in seen:
            raise RequestError(
                "Each partition must have a unique <id, compression_group_id> tuple, but duplicates were found."
            )
        seen.add(key)


def is_pas(request: kv_server_v2_pb2.GetValuesRequest) -> bool:
    """True if the metadata mark a protected-app-signals request."""
    return request.metadata.fields["is_pas"].string_value == "true" if "is_pas" in request.metadata.fields else False


def execution_metadata(
    request: kv_server_v2_pb2.GetValuesRequest, partition: kv_server_v2_pb2.RequestPartition
) -> dict[str, JsonValue]:
    """The script's first argument (§10.3)."""
    metadata: dict[str, JsonValue] = {
        "requestMetadata": from_struct(request.metadata),
        "udfInterfaceVersion": UDF_INTERFACE_VERSION,
    }
    if partition.HasField("metadata"):
        metadata["partitionMetadata"] = from_struct(partition.metadata)
    return metadata


def udf_arguments(partition: kv_server_v2_pb2.RequestPartition) -> list[JsonValue]:
    """The script's other arguments: bare data, or `{tags, data}` where an argument has tags (§10.3)."""
    arguments: list[JsonValue] = []
    for argument in partition.arguments:
        data = from_value(argument.data)
        if argument.tags.values:
            arguments.append({"tags": [from_value(tag) for tag in argument.tags.values], "data": data})
        else:
            arguments.append(data)
    return arguments


def _pas_request(
    arguments: Sequence[kv_server_pb2.UDFArgument],
    log_context: common.LogContext | None,
    consented_debug_config: common.ConsentedDebugConfiguration | None,
) -> kv_server_v2_pb2.GetValuesRequest:
    request = kv_server_v2_pb2.GetValuesRequest(
        client_version=RETRIEVAL_CLIENT_VERSION,
        metadata=to_struct({"is_pas": "true"}),
        log_context=log_context,
        consented_debug_config=consented_debug_config,
    )
    request.partitions.add(id=0, arguments=arguments)
    return request


def _inserted(value: JsonValue) -> JsonValue:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            parsed: JsonValue = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        return parsed
    return value
