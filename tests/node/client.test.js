// The printed client against a real gateway, whose streams end long before an attach does, and whose replica dies.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { attach, attachAll, connect, listAll, reason, watch, watchFleet } from "./client.js";

const PATIENCE = 100_000;
const KEY = { ALIBABA_CLOUD_ACCESS_KEY_ID: "simulator", ALIBABA_CLOUD_ACCESS_KEY_SECRET: "simulator" };
const folder = mkdtempSync(path.join(os.tmpdir(), "node-client-"));
const log = path.join(folder, "log");
const processes = [];
const ports = {};
/** The replica that serves now. */
let living;

/** A port without a listener now. */
function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Waits until something listens there. */
async function listens(port) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const connected = await new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (connected) return;
    assert.ok(Date.now() < deadline, `nothing listens at ${port}: ${readFileSync(log)}`);
    await sleep(50);
  }
}

function start(program, parameters, environment = {}) {
  const stdio = ["ignore", openSync(log, "a"), openSync(log, "a")];
  const child = spawn(program, parameters, { env: { PATH: process.env.PATH, ...environment }, stdio });
  processes.push(child);
  return child;
}

/** A real proxy in front of the replica, once it listens. Returns its port. */
async function front(program) {
  const [name, options] = {
    nginx: ["nginx.conf", ["-p", folder, "-e", "stderr", "-c"]],
    haproxy: ["haproxy.cfg", ["-f"]],
  }[program];
  const port = await freePort();
  let text = readFileSync(path.join(process.env.PROXIES, name), "utf8");
  const places = { "@PORT@": port, "@REPLICA@": ports.grpc, "@FOLDER@": folder };
  for (const [place, value] of Object.entries(places)) text = text.replaceAll(place, value);
  const file = path.join(folder, name);
  writeFileSync(file, text);
  start(program, [...options, file]);
  await listens(port);
  return port;
}

/** A replica, once it serves. */
async function replica() {
  const settings = {
    LEDGER__URL: `redis://127.0.0.1:${ports.redis}/0`,
    LEDGER__FRESH: "true",
    ENS__ENDPOINT: `http://127.0.0.1:${ports.ens}`,
    GRPC__LISTEN: `127.0.0.1:${ports.grpc}`,
    ADMIN__LISTEN: `127.0.0.1:${ports.admin}`,
    WATCH__HEARTBEAT: "1s",
    WATCH__MAX_AGE: "1500ms",
  };
  const variables = Object.entries(settings).map(([name, value]) => [`ENI_GATEWAY_${name}`, value]);
  const child = start(process.env.ENI_GATEWAY_BINARY, ["serve"], { ...KEY, ...Object.fromEntries(variables) });
  await listens(ports.grpc);
  return child;
}

before(async () => {
  for (const name of ["redis", "ens", "grpc", "admin"]) ports[name] = await freePort();
  start("redis-server", ["--port", ports.redis, "--save", "", "--dir", folder, "--maxmemory-policy", "noeviction"]);
  // Longer than a stream.
  const options = ["--listen", `127.0.0.1:${ports.ens}`, "--attach-time", "6s"];
  start(process.env.ENI_GATEWAY_BINARY, ["simulator", ...options], KEY);
  await Promise.all([listens(ports.redis), listens(ports.ens)]);
});

after(() => {
  for (const child of processes.reverse()) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

/** Attaches and watches there, while the replica dies. */
async function watchedOverADeath(client, eni) {
  const accepted = await attach(client, "i-stopped-1", eni);
  assert.ok(accepted.uid);
  const states = [];
  let last = 0n;
  for await (const attachment of watch(client, "i-stopped-1", eni)) {
    assert.equal(attachment.uid, accepted.uid);
    assert.ok(BigInt(attachment.revision) > last, "a change is sent once");
    last = BigInt(attachment.revision);
    states.push(attachment.state);
    if (states.length === 1) {
      living.kill("SIGKILL");
      living = await replica();
    }
  }
  assert.equal(states.at(-1), "STATE_ATTACHED", states.join());
}

test("an attach is watched over several streams and a death of the replica", { timeout: PATIENCE }, async () => {
  living = await replica();
  const client = connect(`127.0.0.1:${ports.grpc}`);
  await watchedOverADeath(client, "eni-0001");

  await assert.rejects(attach(client, "i-running", "eni-0002"), (error) => {
    assert.equal(reason(error), "INSTANCE_NOT_STOPPED");
    return true;
  });
  client.close();
  await assert.rejects(attach(connect("127.0.0.1:9"), "i-stopped-1", "eni-0003", 1), (error) => {
    assert.equal(reason(error), "OUTCOME_UNKNOWN");
    return true;
  });
});

for (const [number, program] of ["nginx", "haproxy"].entries()) {
  test(`the same behind ${program}`, { timeout: PATIENCE }, async () => {
    const client = connect(`127.0.0.1:${await front(program)}`);
    await watchedOverADeath(client, `eni-000${4 + number}`);
    client.close();
  });
}

test("a batch is watched with all instances over several streams and a death of the replica", { timeout: PATIENCE }, async () => {
  const client = connect(`127.0.0.1:${ports.grpc}`);
  const results = await attachAll(client, "i-stopped-3", ["eni-0021", "eni-unknown", "eni-0022"]);
  assert.deepEqual([...results.values()].map((result) => result.error?.reason), [undefined, "ENI_NOT_FOUND", undefined]);
  const fleet = new Map();
  const attached = () => {
    const known = fleet.get("i-stopped-3")?.attachments ?? [];
    return known.filter(({ state }) => state === "STATE_ATTACHED").map((it) => it.network_interface_id);
  };
  let killed = false;
  for await (const message of watchFleet(client, fleet, "i-stopped-")) {
    if (message.heartbeat && !killed) {
      killed = true;
      living.kill("SIGKILL");
      living = await replica();
    }
    if (attached().length === 2) break;
  }
  assert.deepEqual(attached(), ["eni-0021", "eni-0022"]);
  const listed = [];
  for await (const attachment of listAll(client, ["STATE_ATTACHED"])) listed.push(attachment.network_interface_id);
  assert.ok(listed.includes("eni-0021") && listed.includes("eni-0022"), listed.join());
  client.close();
});
