// The second half of the report: the same attempts by code that holds the engine's own objects, as if the wall between
// the realms had fallen. Prints the names of all attempts and one JSON line for each. Started exactly like a worker.
const attempts = {
  "read a file": () => Deno.readTextFileSync("/etc/passwd").length > 0,
  "read a file through node:fs": async () => (await import("node:fs")).readFileSync("/etc/passwd").length > 0,
  "list a folder": () => [...Deno.readDirSync("/")].length > 0,
  "write a file": () => { Deno.writeTextFileSync("/tmp/adyton-escape", "x"); return true; },
  "read environment variables": () => Object.keys(Deno.env.toObject()).length > 0,
  "read the host name": () => Deno.hostname().length > 0,
  "start a process": () => new Deno.Command("/bin/sh", { args: ["-c", "true"] }).outputSync().success,
  "start a process through node": async () =>
    (await import("node:child_process")).spawnSync("/bin/sh", ["-c", "true"]).status === 0,
  "call native code": () => Boolean(Deno.dlopen("libc.so.6", {})),
  "send a signal": () => { Deno.kill(1, "SIGCONT"); return true; },
  "fetch from the network": async () => (await fetch("http://127.0.0.1:1009/")).ok,
  "open a connection": async () => Boolean(await Deno.connect({ hostname: "127.0.0.1", port: 1009 })),
  "open a connection through node": async () => {
    const { connect } = await import("node:net");
    return await new Promise((resolve, reject) => {
      connect(1009, "127.0.0.1").on("connect", () => resolve(true)).on("error", reject);
    });
  },
  "send a datagram through node": async () => {
    const socket = (await import("node:dgram")).createSocket("udp4");
    return await new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.send("x", 1009, "127.0.0.1", (error) => error ? reject(error) : resolve(true));
    });
  },
  "listen on a port": () => Boolean(Deno.listen({ port: 0 })),
  "resolve a name": async () => (await Deno.resolveDns("localhost", "A")).length >= 0,
  "import from the network": async () => Boolean(await import("https://127.0.0.1:1009/" + "x.js")),
  "ask for permission": async () => (await Deno.permissions.request({ name: "read" })).state === "granted",
  "start another thread": async () => {
    const url = "data:text/javascript,Deno.readTextFileSync('/etc/passwd');postMessage(1)";
    const worker = new Worker(url, { type: "module" });
    return await new Promise((resolve, reject) => {
      worker.onmessage = () => resolve(true);
      worker.onerror = (event) => { event.preventDefault(); reject(new Error("NotCapable")); };
    });
  },
};

// A refused connection means that it was let out of the process: only a missing permission or network counts.
const LEFT = /refused|reset by peer|timed out/i;
// Node's sockets report a missing permission outside the call that needed it.
for (const kind of ["error", "unhandledrejection"]) addEventListener(kind, (event) => event.preventDefault());
(await import("node:process")).default.on("uncaughtException", () => {});
const print = (value) => Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(value) + "\n"));
print(Object.keys(attempts));
for (const [name, attempt] of Object.entries(attempts)) {
  let worked = false, detail = "no result";
  try {
    const late = new Promise((resolve) => setTimeout(() => resolve(false), 700));
    worked = Boolean(await Promise.race([attempt(), late]));
    detail = worked ? "worked" : "nothing came of it";
  } catch (error) {
    detail = String(error?.name ?? "error");
    worked = LEFT.test([error?.message, error?.code, error?.cause?.message, error?.cause].join(" "));
  }
  print({ name, worked, detail });
}
Deno.exit(0);
