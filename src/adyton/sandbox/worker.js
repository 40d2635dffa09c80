// One script of one owner, in a process without permissions. Frames on stdin and stdout: u32 length | u8 type | payload.
//
// Each request runs in a context that no earlier request has seen, with a queue of microtasks of its own, so that nothing
// of a request runs once it is answered. The next context is made after the answer; but where the host says that the
// request may go on, its context is kept for the next call, until that comes or the host says that it never will.
// The context keeps requests apart; what keeps a script away from the machine is Deno's permissions, the resource
// limits and the namespaces around this process.
import v8 from "node:v8";
import vm from "node:vm";
import { setImmediate } from "node:timers";

const LOAD = 1, CALL = 2, HOST_REPLY = 3, FORGET = 4;
const HELLO = 16, LOADED = 17, LOAD_FAILED = 18, RESULT = 19, HOST_CALL = 20, READY = 21;

const stdin = Deno.stdin, stdout = Deno.stdout;
const exit = Deno.exit.bind(Deno);
const encoder = new TextEncoder(), decoder = new TextDecoder();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const turn = () => new Promise((resolve) => setImmediate(resolve));
const heap = v8.getHeapStatistics;
// The engine collects garbage when somewhat less than half of its heap is used, most often while it makes a context.
const REST_AT_BYTES = 0.37 * heap().heap_size_limit, REQUESTS_BETWEEN_LOOKS = 8;

// The script never gets an object of this realm. Should one leak, nothing reachable here can carry state onwards.
delete globalThis.Deno;
for (const made of [() => 0, async () => 0, function* () {}, async function* () {}]) {
  // Without a way to make functions of this realm, a leaked object does not lead to its globals.
  Object.defineProperty(Object.getPrototypeOf(made), "constructor", { value: undefined });
}
// `exit` dispatches this first, which a locked realm refuses, and then it would throw instead of ending the process.
globalThis.dispatchEvent(new Event("unload"));
lock(globalThis);

function lock(root) {
  const seen = new Set(), queue = [root];
  while (queue.length) {
    const value = queue.pop();
    if (value === null || (typeof value !== "object" && typeof value !== "function") || seen.has(value)) continue;
    seen.add(value);
    try {
      queue.push(Object.getPrototypeOf(value));
      if (value !== globalThis) Object.freeze(value);
      else Object.preventExtensions(value);
      for (const key of Reflect.ownKeys(value)) {
        const found = Object.getOwnPropertyDescriptor(value, key);
        if (value === globalThis && "value" in found) {
          Reflect.defineProperty(value, key, { writable: false, configurable: false });
        }
        if (found && "value" in found) queue.push(found.value);
        else if (found) queue.push(found.get, found.set);
      }
    } catch { /* exotic objects that refuse to be frozen */ }
  }
}

function read(n) {
  const bytes = new Uint8Array(n);
  for (let at = 0; at < n;) {
    const got = stdin.readSync(bytes.subarray(at));
    if (got === null) exit(0);
    at += got;
  }
  return bytes;
}
function receive() {
  const head = read(5);
  const length = new DataView(head.buffer).getUint32(0);
  return [head[4], read(length)];
}
function send(type, ...parts) {
  let length = 0;
  for (const part of parts) length += part.length;
  const frame = new Uint8Array(5 + length);
  new DataView(frame.buffer).setUint32(0, length);
  frame[4] = type;
  let at = 5;
  for (const part of parts) { frame.set(part, at); at += part.length; }
  for (at = 0; at < frame.length;) at += stdout.writeSync(frame.subarray(at));
}
function split(payload) {
  const size = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
  return [JSON.parse(decoder.decode(payload.subarray(4, 4 + size))), payload.subarray(4 + size)];
}
function joined(header, bodies) {
  const text = encoder.encode(JSON.stringify(header));
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, text.length);
  return [size, text, ...bodies];
}
function describe(error) {
  try { return String(error.message).slice(0, 1000); } catch { return ""; }
}

let load = null, driverScript = null, udfScript = null;
let next = null, kept = null, generation = 0, serving = 0, untilLook = REQUESTS_BETWEEN_LOOKS;
const nothing = new vm.Script("0");

function makeContext() {
  const mine = ++generation;
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY, { microtaskMode: "afterEvaluate" });
  const hostCall = (name, text) => {
    if (mine !== serving) return "eno request is being served";
    send(HOST_CALL, ...joined({ name }, [encoder.encode(text)]));
    const [type, payload] = receive();
    if (type !== HOST_REPLY) exit(3);
    const body = payload.subarray(1);
    const kind = String.fromCharCode(payload[0]);
    return kind + (kind === "b" ? body.toHex() : decoder.decode(body));
  };
  const driver = driverScript.runInContext(context)(hostCall, load.spec);
  udfScript.runInContext(context);
  return { context, driver, mine };
}

// Whether the next context may take long, because a garbage collection is near. The host is told to wait for READY.
function mayRest() {
  if (--untilLook > 0) return false;
  const near = heap().used_heap_size > REST_AT_BYTES;
  untilLook = near ? 1 : REQUESTS_BETWEEN_LOOKS;
  return near;
}

function makeNext() {
  try { next ??= makeContext(); } catch { next = null; }
}

// The context that is kept, where the call may have it and it can serve that kind of call too, else a new one.
function takeContext(header) {
  const old = header.fresh ? null : kept;
  kept = null;  // now, so that a new one may use its memory
  if (old !== null && old.driver.begin(header.console, header.kind)) return old;
  const made = next ?? makeContext();
  next = null;
  made.driver.begin(header.console, header.kind);
  return made;
}

async function serve(payload) {
  const [header, bodies] = split(payload);
  const request = takeContext(header);
  const { context, driver, mine } = request;
  serving = mine;
  const items = [], answers = [];
  let at = 0;
  for (const call of header.calls) {
    const args = [];
    for (const [form, size] of call) {
      const body = bodies.subarray(at, at + size);
      at += size;
      args.push(form, form === "h" ? body.toHex() : decoder.decode(body));
    }
    let answer = driver.invoke(header.function, ...args);
    if (answer === "P") {
      // Evaluating anything in a context runs its microtasks to the end. What is unsettled then can only wait for
      // WebAssembly, which needs a turn of the event loop; the host's deadline ends the rest.
      nothing.runInContext(context);
      while (!(answer = driver.settled())) {
        await sleep(1);
        nothing.runInContext(context);
      }
    }
    const body = encoder.encode(String(answer).slice(1));
    items.push({ status: String(answer)[0], size: body.length, effects: driver.effects(), console: driver.console() });
    answers.push(body);
  }
  serving = 0;
  if (header.keep) kept = request;
  const rest = kept === null && mayRest();
  send(RESULT, ...joined({ items, rest }, answers));
  if (kept !== null) return;
  makeNext();
  if (!rest) return;
  await turn();  // what the engine puts off to its event loop
  send(READY);
}

send(HELLO);
for (;;) {
  const [type, payload] = receive();
  if (type === LOAD && load === null) {
    const [header, code] = split(payload);
    load = header;
    try {
      driverScript = new vm.Script(header.driver, { filename: "driver.js" });
      udfScript = new vm.Script(decoder.decode(code), { filename: "udf.js" });
      next = makeContext();
      send(LOADED);
    } catch (error) {
      send(LOAD_FAILED, encoder.encode(describe(error)));
    }
  } else if (type === CALL && udfScript !== null) {
    await serve(payload);
  } else if (type === FORGET && udfScript !== null) {
    kept = null;
    makeNext();
  } else {
    exit(3);
  }
}
