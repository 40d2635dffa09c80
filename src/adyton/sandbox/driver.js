// The trusted code inside a script's own context; it runs before the script and keeps its own copies of built-ins.
//
// Only strings, numbers and booleans pass between this realm and the worker's: an object of the worker's realm would
// lead a script, through `.constructor.constructor`, to the worker's globals, where state could outlive the request.
(function (hostCall, specJson) {
  "use strict";
  const { parse, stringify } = JSON;
  const { apply, deleteProperty, defineProperty: tryDefine } = Reflect;
  const { defineProperty, getOwnPropertyDescriptor, hasOwn, keys } = Object;
  const { isArray } = Array;
  const U8 = Uint8Array, M = Map, Err = Error, P = Promise, Str = String;
  const then = P.prototype.then, mapSet = M.prototype.set, slice = Str.prototype.slice;
  const fromHex = U8.fromHex, toHex = U8.prototype.toHex;
  const resolve = P.resolve;
  const evaluate = eval;
  const tag = getOwnPropertyDescriptor(Object.getPrototypeOf(U8.prototype), Symbol.toStringTag).get;
  const isSafeByte = (v) => typeof v === "number" && v >= 0 && v <= 255 && v === (v | 0);
  const globals = globalThis;
  const spec = parse(specJson);
  const kinds = keys(spec.kinds);
  // What the script is called for now. Code that serves several kinds does not know before its first call.
  let kind = kinds.length === 1 ? kinds[0] : "";

  // What leaves at the end of a call is made without anything whose prototype the script could change.
  let lines = "", lineBytes = 0, capture = false;
  let effects = { __proto__: null };
  let settled = "";

  function define(name, value) {
    defineProperty(globals, name, { value, writable: true, configurable: true, enumerable: false });
  }
  // The same after the script has run: false where it has seen to it that nothing can be added.
  function defineAgain(name, value) {
    return tryDefine(globals, name, { __proto__: null, value, writable: true, configurable: true, enumerable: false });
  }

  function show(value) {
    if (typeof value === "string") return value;
    try {
      const text = typeof value === "object" ? stringify(value) : Str(value);
      return typeof text === "string" ? text : "undefined";
    } catch { return "[unprintable]"; }
  }
  function log(...values) {
    if (!capture || lineBytes >= spec.consoleBytes) return;
    let line = "";
    for (let i = 0; i < values.length; i++) line += (i ? " " : "") + show(values[i]);
    line = apply(slice, line, [0, spec.consoleBytes - lineBytes]);
    lineBytes += line.length + 1;
    lines += (lines ? "," : "") + stringify(line);
  }
  // The engine would hand call sites, objects of the worker's realm, to a script's own formatter of stack traces.
  defineProperty(Err, "prepareStackTrace", { value: undefined, writable: false, configurable: false });
  defineProperty(globals, "Error", { value: Err, writable: false, configurable: false });

  // Functions that only some kinds have. A script sees those of all its kinds at its top level, since it is loaded before
  // anybody knows which it will serve, and in a call those of the call's kind. One that it took along says no.
  const special = { __proto__: null }, removed = { __proto__: null };
  function isMine(name) { return kind === "" || hasOwn(spec.kinds[kind], name); }
  function checkMine(name) {
    if (!isMine(name)) throw new Err(name + ": not available in this function");
  }
  function offer(name, value) {
    special[name] = value;
    define(name, value);
  }
  function turnTo(wanted) {
    kind = wanted;
    const names = keys(special);
    for (let i = 0; i < names.length; i++) {
      const name = names[i], found = getOwnPropertyDescriptor(globals, name);
      if (isMine(name)) {
        if (removed[name] && found === undefined && !defineAgain(name, special[name])) return false;
        removed[name] = false;
      } else if (found !== undefined && found.value === special[name]) {
        // A script's own function of that name stays.
        removed[name] = deleteProperty(globals, name);
      }
    }
    return true;
  }

  define("console", { log, info: log, debug: log, warn: log, error: log, trace: log });
  define("logMessage", (text) => log(text));

  function callText(form, args) {
    if (form === "none") return "";
    if (form === "text") return typeof args[0] === "string" ? args[0] : show(args[0]);
    return stringify(form === "list" ? args : args[0] === undefined ? null : args[0]);
  }
  for (const name of keys(spec.hooks)) {
    const { call, answer } = spec.hooks[name];
    offer(name, (...args) => {
      checkMine(name);
      const text = callText(call, args);
      let reply;
      // An exception of the worker's realm must not reach the script.
      try { reply = hostCall(name, text); } catch { throw new Err(name + " failed"); }
      const body = apply(slice, reply, [1]);
      if (reply[0] === "e") throw new Err(name + ": " + body);
      if (reply[0] === "b") return apply(fromHex, U8, [body]);
      return answer === "json" ? parse(body) : body;
    });
  }

  function url(value) {
    if (typeof value !== "string") throw new Err("the URL must be a string");
    return value;
  }
  if (hasOwn(spec.kinds, "reporting")) {
    offer("sendReportTo", (value) => {
      checkMine("sendReportTo");
      if (effects.reportUrl !== undefined) throw new Err("sendReportTo function invoked more than once");
      effects.reportUrl = url(value);
    });
    offer("registerAdBeacon", (beacons) => {
      checkMine("registerAdBeacon");
      if (effects.beacons !== undefined) throw new Err("registerAdBeacon function invoked more than once");
      const copy = { __proto__: null };
      const entries = beacons instanceof M ? [...beacons] : keys(beacons).map((key) => [key, beacons[key]]);
      for (const [event, value] of entries) copy[show(event)] = url(value);
      effects.beacons = copy;
    });
  }
  if (hasOwn(spec.kinds, "generate_bid") || hasOwn(spec.kinds, "score_ad")) {
    const debugUrl = (value) => {
      checkMine("forDebuggingOnly");
      return show(value instanceof M ? value.values().next().value : value);
    };
    offer("forDebuggingOnly", {
      reportAdAuctionWin: (value) => { effects.debugWinUrl = debugUrl(value); },
      reportAdAuctionLoss: (value) => { effects.debugLossUrl = debugUrl(value); },
    });
  }

  function signalMap(text) {
    const map = new M();
    for (const entry of parse(text)) {
      for (const key of keys(entry)) {
        const list = [];
        for (const { val, time, app } of entry[key]) {
          list[list.length] = { signal_value: apply(fromHex, U8, [val]), creation_time: time, package_name: app };
        }
        apply(mapSet, map, [apply(fromHex, U8, [key]), list]);
      }
    }
    return map;
  }

  // "B" + hex of `results` + ";" + JSON of the rest, or "R" + JSON when `results` is not a byte array.
  function encoded(value) {
    if (value === null || typeof value !== "object") return "R" + json(value);
    let bytes = value.results;
    if (isArray(bytes)) {
      const copy = new U8(bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        const byte = bytes[i];
        if (!isSafeByte(byte)) return "R" + json({ status: value.status });
        copy[i] = byte;
      }
      bytes = copy;
    }
    if (apply(tag, bytes, []) !== "Uint8Array") return "R" + json({ status: value.status });
    return "B" + apply(toHex, bytes, []) + ";" + json({ status: value.status });
  }
  function json(value) {
    const text = stringify(value);
    return text === undefined ? "null" : text;
  }
  function answer(value) {
    const text = kind === "encode_signals" ? encoded(value) : "R" + json(value);
    return text.length > spec.resultBytes ? "L" : text;
  }
  function failure(thrown) {
    let message = "";
    try {
      message = thrown instanceof Err ? Str(thrown.message) : show(thrown);
    } catch { message = "[unprintable]"; }
    return "T" + apply(slice, message, [0, 1000]);
  }

  return {
    // False if the context has served a call of another kind and cannot be made what this kind's calls need.
    begin(wantConsole, wantedKind) {
      capture = wantConsole; lines = ""; lineBytes = 0;
      return wantedKind === kind || turnTo(wantedKind);
    },
    // Each argument is a form (j = JSON, h = hex of bytes, m = signal map) and its text.
    invoke(name, ...formsAndTexts) {
      effects = { __proto__: null };
      lines = "";
      settled = "";
      try {
        const args = [];
        for (let i = 0; i < formsAndTexts.length; i += 2) {
          const text = formsAndTexts[i + 1];
          args[args.length] = formsAndTexts[i] === "j" ? parse(text)
            : formsAndTexts[i] === "h" ? apply(fromHex, U8, [text]) : signalMap(text);
        }
        // An indirect eval also sees functions declared with `const` and `let`. The host allows only identifiers.
        const callee = evaluate("typeof " + name + " === 'function' ? " + name + " : undefined");
        if (callee === undefined) return "N";
        const value = apply(callee, undefined, args);
        if (value === null || (typeof value !== "object" && typeof value !== "function")) return answer(value);
        if (!(value instanceof P) && typeof value.then !== "function") return answer(value);
        const promise = apply(resolve, P, [value]);
        apply(then, promise, [
          (late) => { try { settled = answer(late); } catch (thrown) { settled = failure(thrown); } },
          (thrown) => { settled = failure(thrown); },
        ]);
        return "P";
      } catch (thrown) {
        return failure(thrown);
      }
    },
    settled() { return settled; },
    effects() { return stringify(effects); },
    console() { return "[" + lines + "]"; },
  };
})
