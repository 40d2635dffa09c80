"""Buckets as a folder and behind the S3 API: a small real server lists in pages and checks the requests' signatures."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import grpc
import onnx
import pytest

from adyton.auction.config import ScriptSource, parse_config
from adyton.auction.errors import CodeFetchError, ConfigError
from adyton.auction.inference.errors import ModelListError
from adyton.auction.services import model_buckets
from adyton.auction.services.buckets import MAX_BLOB_BYTES, MAX_BLOBS, open_bucket
from adyton.auction.services.code_store import BlobFetcher, ScriptStore
from adyton.auction.services.egress_schemas import EgressSchemaStore
from adyton.auction.services.model_buckets import open_model_bucket
from adyton.auction.services.process import PartyProcess
from adyton.auction.services.s3_signature import Credentials, signed_headers
from adyton.kernel.clock import ManualClock
from adyton.protocol.messages import inference_pb2, inference_pb2_grpc
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfKind

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"}
NOW_MS = 1_700_000_000_000
PAGE = 3


class FakeS3(ThreadingHTTPServer):
    """`/scripts/...` holds `blobs`. With `is_signed` every request must carry the signature of KEYS at NOW_MS."""

    daemon_threads = True
    blobs: dict[str, bytes]
    is_signed: bool
    listing: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeS3

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query, path = dict(parse_qsl(parts.query)), unquote(parts.path)
        if self.server.is_signed:
            expected = signed_headers(
                host=self.headers["host"], path=path, query=query, credentials=Credentials("id", "secret"),
                region="eu-central-1", at_ms=NOW_MS,
            )  # fmt: skip
            if self.headers["authorization"] != expected["authorization"]:
                return self._send(403, b"")
        if path == "/scripts" and query.get("list-type") == "2":
            return self._send(200, self.server.listing or self._list(query))
        blob = self.server.blobs.get(path.removeprefix("/scripts/"))
        return self._send(404, b"") if blob is None else self._send(200, blob)

    def _list(self, query: dict[str, str]) -> bytes:
        names = sorted(name for name in self.server.blobs if name.startswith(query.get("prefix", "")))
        start = int(query.get("continuation-token", "0"))
        rest = start + PAGE < len(names)
        keys = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in names[start : start + PAGE])
        after = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{start + PAGE}</NextContinuationToken>"
        body = f"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{keys}{after if rest else ''}"
        return f"<?xml version='1.0'?>{body}</ListBucketResult>".encode()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def s3(blobs: dict[str, bytes], *, is_signed: bool = False) -> Iterator[FakeS3]:
    server = FakeS3(("127.0.0.1", 0), _Handler)
    server.blobs, server.is_signed = blobs, is_signed
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def read_all(place: str, environ: dict[str, str]) -> dict[str, bytes]:
    async def work() -> dict[str, bytes]:
        bucket = open_bucket(place, timeout_s=10, environ=environ, clock=ManualClock(NOW_MS))
        return {name: await bucket.read(name) for name in await bucket.names()}

    return asyncio.run(work())


BLOBS = {f"v{n}.js": f"// {n}".encode() for n in range(7)} | {"a b+ü.js": b"// odd name"}


def test_a_bucket_is_read_page_by_page_anonymously_or_signed() -> None:
    with s3(BLOBS) as server:
        assert read_all(f"{server.url}/scripts", {}) == BLOBS
        assert read_all("s3://scripts", {"AWS_ENDPOINT_URL": server.url}) == BLOBS
    with s3(BLOBS, is_signed=True) as server:
        assert read_all("s3://scripts", {**KEYS, "AWS_ENDPOINT_URL": server.url}) == BLOBS
        with pytest.raises(CodeFetchError, match="403"):
            read_all("s3://scripts", {**KEYS, "AWS_SECRET_ACCESS_KEY": "other", "AWS_ENDPOINT_URL": server.url})
        with pytest.raises(CodeFetchError, match="403"):
            read_all(f"{server.url}/scripts", {})


def test_a_prefix_is_a_bucket_of_its_own() -> None:
    with s3({"bids/one.js": b"1", "bids/": b"", "scores/two.js": b"2"}) as server:
        assert read_all(f"{server.url}/scripts/bids/", {}) == {"one.js": b"1"}


def test_a_folder_is_a_bucket(tmp_path: Path) -> None:
    (tmp_path / "v1.js").write_bytes(b"1")
    (tmp_path / ".v2.js.partial").write_bytes(b"2")
    (tmp_path / "inside").mkdir()
    assert read_all(str(tmp_path), {}) == {"v1.js": b"1"}
    with pytest.raises(CodeFetchError):
        read_all(str(tmp_path / "none"), {})
    with pytest.raises(CodeFetchError, match="not the name of a blob"):
        asyncio.run(open_bucket(str(tmp_path), timeout_s=1).read("../secret"))


@pytest.mark.parametrize(
    "listing",
    [
        b"<html></html>",
        b"not XML",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b'<!DOCTYPE l [<!ENTITY a "aaaa">]><ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>',
        b"<ListBucketResult>" + b" " * (2 * 1024 * 1024) + b"</ListBucketResult>",
    ],
)
def test_a_listing_that_is_none_is_one_error(listing: bytes) -> None:
    with s3({}) as server:
        server.listing = listing
        with pytest.raises(CodeFetchError):
            read_all(f"{server.url}/scripts", {})


def test_too_many_and_too_large_blobs_and_unreachable_buckets_are_refused() -> None:
    with s3({f"{n}.js": b"" for n in range(MAX_BLOBS + 1)}) as server:
        with pytest.raises(CodeFetchError, match=f"more than {MAX_BLOBS}"):
            read_all(f"{server.url}/scripts", {})
        server.blobs = {"large.js": b"x" * (MAX_BLOB_BYTES + 1)}
        with pytest.raises(CodeFetchError, match="larger than"):
            read_all(f"{server.url}/scripts", {})
    with pytest.raises(CodeFetchError, match="failed"):
        read_all(f"{server.url}/scripts", {})
    for place in ("s3://", "https://host", "gs:///x"):
        with pytest.raises(ConfigError, match="names no bucket"):
            open_bucket(place, timeout_s=1, environ={})
    with pytest.raises(ConfigError, match="this is no address"):
        open_bucket("s3://[", timeout_s=1, environ={})


def test_blobs_are_versions_of_a_script_that_come_change_and_fail_while_it_is_served(tmp_path: Path) -> None:
    def script(number: int) -> bytes:
        return f"function generateBid() {{ return {number}; }}".encode()

    async def work() -> None:
        with s3({"default.js": script(1), "v2.js": script(2)}) as server:
            source = ScriptSource(bucket=f"{server.url}/scripts", default="default.js")
            async with SandboxPool(spares=0) as pool:
                store = ScriptStore(
                    pool, BlobFetcher(timeout_ms=10_000), owner="b", kind=UdfKind.GENERATE_BID, source=source
                )

                async def bid(version: str = "") -> object:
                    return (await pool.call(store.handle(version), "generateBid", [], deadline_ms=20_000)).value

                await store.refresh()
                assert [await bid(), await bid("default.js"), await bid("v2.js")] == [1, 1, 2]

                server.blobs = {"default.js": script(3), "v2.js": b"syntax error (", "v3.js": script(4), "bad.js": b"("}
                await store.refresh()
                assert [await bid(), await bid("v2.js"), await bid("v3.js")] == [3, 2, 4]

                server.listing = b"not XML"
                await store.refresh()
                assert await bid() == 3
                await store.close()

    asyncio.run(work())


def test_models_and_their_list_come_from_a_bucket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = {f"ads/pctr/1/assets/{n}.txt": b"" for n in range(PAGE)} | {
        "ads/list.json": b'{"model_metadata":[]}',
        "ads/pctr/1/model.onnx": b"one",
        "ads/pctr/10/model.onnx": b"ten",
        "ads/flat.pt": b"flat",
        "other/list.json": b"",
    }

    async def work() -> None:
        with s3(blobs) as server:
            environ = {"AWS_ENDPOINT_URL": server.url}
            bucket = open_model_bucket("s3://scripts/ads", "list.json", timeout_s=10, environ=environ)
            whole = {name.removeprefix("ads/"): blob for name, blob in blobs.items() if name.startswith("ads/pctr/1/")}

            assert await bucket.read_list() == b'{"model_metadata":[]}'
            assert await bucket.read_model("pctr/1/") == whole
            assert await bucket.read_model("pctr/1") == whole
            assert await bucket.read_model("flat.pt") == {"flat.pt": b"flat"}
            with pytest.raises(ModelListError, match="holds no file"):
                await bucket.read_model("pctr/2/")

            monkeypatch.setattr(model_buckets, "MAX_MODEL_FILES", 10)
            server.blobs = {f"ads/many/{n}": b"" for n in range(11)}
            with pytest.raises(CodeFetchError, match="more than 10 blobs"):
                await bucket.read_model("many/")
            with pytest.raises(CodeFetchError, match="404"):
                await bucket.read_list()

    asyncio.run(work())


def test_a_process_serves_the_models_of_a_bucket_and_does_not_start_without_its_list() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    blobs = {
        "list.json": b'{"model_metadata":[{"model_path":"same/1/"},{"model_path":"none/1/"}]}',
        "same/1/model.onnx": bytes(model.SerializeToString()),
    }

    async def work() -> None:
        with s3(blobs) as server:
            models = {"models": f"{server.url}/scripts", "model_list": "list.json", "threads": 2}
            config = parse_config({"name": "models", "test_mode": True, "inference": models})
            async with PartyProcess(config) as process, grpc.aio.insecure_channel(process.addresses.grpc) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                reply = await stub.GetModelPaths(inference_pb2.GetModelPathsRequest(), timeout=30)
                assert [spec.model_path for spec in reply.model_specs] == ["same/1/"]
            server.blobs = {}
            with pytest.raises(CodeFetchError, match="404"):
                async with PartyProcess(config):
                    pass

    asyncio.run(work())


def test_a_bucket_without_its_default_blob_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "v1.js").write_text("function generateBid() {}")

    async def work() -> None:
        async with SandboxPool(spares=0) as pool:
            store = ScriptStore(
                pool, BlobFetcher(timeout_ms=1000), owner="b", kind=UdfKind.GENERATE_BID,
                source=ScriptSource(bucket=str(tmp_path), default="none.js"),
            )  # fmt: skip
            with pytest.raises(CodeFetchError):
                await store.refresh()

    asyncio.run(work())


def test_egress_schemas_come_from_a_bucket_too(tmp_path: Path) -> None:
    text = '{"cddl_version":"1.0.0","version":%d,"features":[{"name":"boolean-feature"}]}'
    (tmp_path / "one.json").write_text(text % 1)
    (tmp_path / "two.json").write_text(text % 2)
    (tmp_path / "broken.json").write_text("{")
    store = EgressSchemaStore(BlobFetcher(timeout_ms=1000), ScriptSource(bucket=str(tmp_path), default="one.json"))
    asyncio.run(store.refresh())

    found = {name: store.schema(name) for name in ("", "default", "two.json", "broken.json", "none")}
    assert {name: schema.version if schema else None for name, schema in found.items()} == {
        "": 1, "default": 1, "two.json": 2, "broken.json": None, "none": None,
    }  # fmt: skip
