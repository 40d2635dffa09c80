"""The work of the auction that `bench/auction.py` measures: its scripts, model and ads, and what they cost alone."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from adyton.auction.retrieval.store import AdRetrievalStore
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.ohttp import Label, decapsulate_request, encapsulate_request
from adyton.protocol.tee import open_request, seal_request
from adyton.sandbox.deno import engine_flags, find_deno
from adyton.sandbox.engines import driver_source
from adyton.sandbox.process import driver_spec
from adyton.sandbox.values import SandboxLimits, UdfKind

D, N_ADS, K, FIELDS = 32, 2_000, 100, 8
BUYERS = ("buyer1.example", "buyer2.example")
REQUEST_BYTES = 5_000

PREPARE = (
    """
function prepareDataForAdRetrieval(signals, version, auctionSignals, contextualSignals) {
  const content = [];
  for (let i = 0; i < FIELDS; i++) content.push(String(signals[i] / 255));
  const reply = JSON.parse(runInference(JSON.stringify({ request: [{ model_path: 'tower/1/', tensors: [{
    tensor_name: 'x', data_type: 'FLOAT', tensor_shape: [1, FIELDS], tensor_content: content }] }] })));
  return { user: reply.response[0].tensors[0].tensor_content };
}
"""
).replace("FIELDS", str(FIELDS))
RETRIEVAL = (
    """
function HandleRequest(metadata, protectedSignals) {
  const { user } = JSON.parse(protectedSignals);
  return runTopK(user, { k: CANDIDATES }).map(({ key, ad }) => ({ id: key, url: ad.url, e: ad.embedding }));
}
"""
).replace("CANDIDATES", str(K))
BID = """
function generateBid(ads, auctionSignals, buyerSignals, prepared) {
  let best = null, bestScore = -Infinity;
  for (const ad of ads) {
    let score = 0;
    for (let i = 0; i < ad.e.length; i++) score += ad.e[i] * prepared.user[i];
    if (score > bestScore) { best = ad; bestScore = score; }
  }
  return { bid: 1 / (1 + Math.exp(-bestScore)), render: best.url, ad: { id: best.id }, egressPayload:
    JSON.stringify({ features: [{ name: 'unsigned-integer-feature', value: 5 }] }) };
}
"""
SELLER = """
function scoreAd(ad, bid) { return bid; }
function reportResult(config, signals) { sendReportTo('https://seller.example/r?bid=' + signals.bid); return {}; }
"""
WIN = "function reportWin(a, b, c, d, e, egress) { sendReportTo('https://buyer.example/win?egress=' + egress); }"


def tower() -> bytes:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(FIELDS, D)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FIELDS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, D])],
        [helper.make_tensor("w", TensorProto.FLOAT, [FIELDS, D], weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_files(folder: Path, separate_files: bool) -> None:
    rng = np.random.default_rng(2)
    scripts = {"p.js": PREPARE, "r.js": RETRIEVAL, "b.js": BID, "s.js": SELLER, "w.js": WIN}
    if not separate_files:
        scripts |= dict.fromkeys(["p.js", "r.js", "b.js"], PREPARE + RETRIEVAL + BID)
    for name, text in scripts.items():
        (folder / name).write_text(text)
    schema = {"cddl_version": "1.0.0", "version": 1, "features": [{"name": "unsigned-integer-feature", "size": 3}]}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "models" / "tower" / "1").mkdir(parents=True)
    (folder / "models" / "tower" / "1" / "model.onnx").write_bytes(tower())
    (folder / "models" / "models.json").write_text('{"model_metadata":[{"model_path":"tower/1/"}]}')
    for buyer in BUYERS:
        (folder / buyer).mkdir()
        rows = ["key,logical_commit_time,mutation_type,value,value_type"]
        for i in range(N_ADS):
            embedding = [round(float(x), 4) for x in rng.normal(size=D) / np.sqrt(D)]
            value = json.dumps({"url": f"https://cdn.{buyer}/{i}", "embedding": embedding}).replace('"', '""')
            rows.append(f'ad-{i},1,UPDATE,"{value}",string')
        (folder / buyer / "SNAPSHOT_0000000000000001.csv").write_text("\n".join(rows) + "\n")


def cpu_of(call: Callable[[], object], *, n: int = 200) -> float:
    """CPU seconds of one call, measured over `n`."""
    call()
    started = time.process_time()
    for _ in range(n):
        call()
    return (time.process_time() - started) / n


def irreducible(folder: Path) -> dict[str, float]:
    """CPU seconds for one auction of each part that cannot be left out, measured alone."""
    ring = KeyRing.test_mode()
    frame, reply = bytes(REQUEST_BYTES), bytes(512)

    def client_hpke() -> None:
        _, context = decapsulate_request(ring, client_body)
        context.encapsulate_response(reply)

    def buyer_hpke() -> None:
        ciphertext, sender = seal_request(TEST_MODE_KEY.public_key, bytes(2_000))
        _, receiver = open_request(ring, ciphertext, 64)
        sender.open_response(receiver.seal_response(bytes(500)))

    client_body, _ = encapsulate_request(TEST_MODE_KEY.public_key, frame, Label.SFE_CURRENT)
    session = onnxruntime.InferenceSession(tower(), providers=["CPUExecutionProvider"])
    x = np.zeros((1, FIELDS), dtype=np.float32)
    store = AdRetrievalStore()
    store.load_snapshot(folder / BUYERS[0] / "SNAPSHOT_0000000000000001.csv")
    query = [0.1] * D
    return {
        "hpke": cpu_of(client_hpke) + 2 * cpu_of(buyer_hpke),
        "inference": 2 * cpu_of(lambda: session.run(None, {"x": x})),
        "retrieval": 2 * cpu_of(lambda: store.top_k(query, {"k": K})),
        "scripts": script_cpu_s(folder),
    }


def script_cpu_s(folder: Path, n: int = 400) -> float:
    """CPU seconds of all scripts of one auction: parse the arguments, run, print the reply, in one V8 context."""
    ads = json.loads("[" + ",".join(_ad_texts(folder)) + "]")
    calls = f"""
import process from "node:process";
const ADS = {json.dumps(json.dumps(ads))};
const VECTOR = {json.dumps(json.dumps([0.1] * D))};
const REPLY = JSON.stringify({{ response: [{{ tensors: [{{ tensor_content: JSON.parse(VECTOR) }}] }}] }});
const signals = new Uint8Array(1536);
const runInference = () => REPLY;
const runTopK = () => JSON.parse(ADS);
const sendReportTo = () => {{}};
function auction() {{
  for (let b = 0; b < 2; b++) {{
    const prepared = JSON.stringify(prepareDataForAdRetrieval(signals, 1, {{}}, {{}}));
    const ads = JSON.stringify(HandleRequest({{}}, prepared));
    JSON.stringify(generateBid(JSON.parse(ads), {{}}, {{}}, JSON.parse(prepared)));
    scoreAd({{}}, 1);
  }}
  reportResult({{}}, {{ bid: 1 }}); reportWin({{}}, {{}}, {{}}, {{}}, {{}}, "");
}}
for (let i = 0; i < 50; i++) auction();
const from = process.cpuUsage();
for (let i = 0; i < {n}; i++) auction();
const used = process.cpuUsage(from);
console.log((used.user + used.system) / 1e6 / {n});
"""
    path = folder / "scripts_alone.mjs"
    path.write_text(PREPARE + RETRIEVAL + BID + SELLER + WIN + calls)
    return float(_deno(path))


def fresh_contexts_cpu_s(folder: Path, *, runs_scripts: bool, separate_files: bool, n: int = 100) -> float:
    """CPU seconds of the fresh contexts of one auction, in a process as workers run, driver and script loaded.

    runs_scripts: also make the nine calls in them, from the text of the arguments to the text of the result; code that
    runs in a context for the first time is interpreted, so this is more than the contexts and the scripts apart.
    """
    path = folder / "contexts_alone.mjs"
    limits = SandboxLimits()
    ads = "[" + ",".join(_ad_texts(folder)) + "]"
    reply = json.dumps({"response": [{"tensors": [{"tensor_content": [0.1] * D}]}]})
    sources = {"BUYER": PREPARE + RETRIEVAL + BID, "SELLER": SELLER, "WIN": WIN}
    kinds = {
        "BUYER": ["prepare_data", "retrieval", "generate_bid"],
        "SELLER": ["score_ad", "reporting"],
        "WIN": ["reporting"],
    }
    specs = {name: driver_spec([UdfKind(kind) for kind in found], limits) for name, found in kinds.items()}
    path.write_text(f"""
import process from "node:process";
import vm from "node:vm";
const driver = new vm.Script({json.dumps(driver_source())}), RUNS = {json.dumps(runs_scripts)};
const SEPARATE = {json.dumps(separate_files)};
const SPECS = {json.dumps(specs)}, ADS = {json.dumps(ads)}, REPLY = {json.dumps(reply)};
const SIGNALS = "00".repeat(1536), ask = (name) => "s" + (name === "runInference" ? REPLY : ADS);
const CODES = {{}};
for (const [name, code] of Object.entries({json.dumps(sources)})) CODES[name] = new vm.Script(code);
function fresh(name) {{
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY, {{ microtaskMode: "afterEvaluate" }});
  const made = driver.runInContext(context)(ask, SPECS[name]);
  CODES[name].runInContext(context);
  return made;
}}
function call(made, kind, name, ...args) {{
  if (!RUNS) return "";
  made.begin(false, kind);
  const answer = made.invoke(name, ...args);
  if (answer[0] !== "R") throw new Error(name + ": " + answer);
  return answer.slice(1);
}}
function auction() {{
  for (let b = 0; b < 2; b++) {{
    let made = fresh("BUYER");
    const user = call(made, "prepare_data", "prepareDataForAdRetrieval", "h", SIGNALS, "j", "1", "j", "{{}}");
    if (SEPARATE) made = fresh("BUYER");
    const ads = call(made, "retrieval", "HandleRequest", "j", "{{}}", "j", JSON.stringify(user));
    if (SEPARATE) made = fresh("BUYER");
    call(made, "generate_bid", "generateBid", "j", ads, "j", "{{}}", "j", "{{}}", "j", user);
  }}
  call(fresh("SELLER"), "score_ad", "scoreAd", "j", "{{}}", "j", "1");
  call(fresh("SELLER"), "reporting", "reportResult", "j", "{{}}", "j", '{{"bid":1}}');
  call(fresh("WIN"), "reporting", "reportWin",
    "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", '""');
}}
for (let i = 0; i < 30; i++) auction();
const from = process.cpuUsage();
for (let i = 0; i < {n}; i++) auction();
const used = process.cpuUsage(from);
console.log((used.user + used.system) / 1e6 / {n});
""")
    return float(_deno(path))


def _deno(script: Path) -> str:
    command = [str(find_deno()), "run", "--quiet", "--allow-all", engine_flags(SandboxLimits()), str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _ad_texts(folder: Path) -> list[str]:
    store = AdRetrievalStore()
    store.load_snapshot(folder / BUYERS[0] / "SNAPSHOT_0000000000000001.csv")
    found = store.top_k([0.1] * D, {"k": K})
    return [f'{{"key":{json.dumps(ad.key)},"score":{ad.score!r},"ad":{ad.text}}}' for ad in found]
