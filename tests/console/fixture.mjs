// Serves the page with generated data: a thousand topics, hostile names, a value that changes with
// each request, and, on demand, errors.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";

const STAGES = { admit: 0.4, buffer: 38, upload: 71, commit: 2.1, reply: 0.3 };
const READ = { plan: 0.9, wait: 180, room: 0, read: 6.2 };
export const HOSTILE = "<img src=x onerror=\"window.broken=true\">";

const stage = ([stage, mean]) => ({ stage, mean_ms: mean, p50_ms: mean * 0.9, p99_ms: mean * 2.8, count: 12040 });
const call = (operation, outcome, count, p50) => ({ operation, outcome, count, p50_ms: p50, p99_ms: p50 * 3 });
const zone = (zone, at, replicas) => ({
  zone, replicas,
  nodes: [0, 1, 2, 3].map((k) => ({ id: 1e9 + at * 64 + k, host: replicas[k % replicas.length] ?? "", address: `10.0.${at}.${k % 2 + 4}`, port: 9300 + k })),
});
const topic = (at) => ({
  name: at === 12 ? HOSTILE : ["clicks", "orders.v2", "audit-log", "sensor.readings"][at] ?? `logs.service-${String(at).padStart(4, "0")}`,
  partitions: 12, produce_bytes: at > 900 ? 0 : 3.2e6 / (at + 1), fetch_bytes: 9.1e6 / (at + 1),
  bytes: at > 900 ? null : 48e9 / (at + 1), objects: 88000 - at, tail_lag_records: at % 7 === 0 ? null : at % 3,
  produced_bytes: 1e9, fetched_bytes: 3e9, saved_dollars: 41.7 / (at + 1) - 0.02, spent_dollars: 2.9 / (at + 1),
  advice: at === 640 ? "would cost $1.20 less per month as a classic topic" : null,
});

export const status = (requests, topics) => ({
  version: "0.1.0", now_ms: Date.now(), started_ms: Date.now() - 86400e3 * 3, replica: "odradek-a-1", zone: "eu-west-1a",
  state: "ready", detail: null, cluster: { id: "MkU3OEVBNTcwNTJENDM2Qg", name: "odradek", brokers: 3 },
  zones: [zone("eu-west-1a", 0, ["odradek-a-0", "odradek-a-1"]), zone("eu-west-1b", 1, ["odradek-b-0", "odradek-b-1"]), zone("eu-west-1c", 2, ["odradek-c-0"])],
  connections: 418 + requests,
  rates: { produce_bytes: 31.4e6, fetch_bytes: 92.8e6, produce_requests: 1840, fetch_requests: 612, cross_zone_bytes: 1200 },
  produce_stages: Object.entries(STAGES).map(stage), fetch_stages: Object.entries(READ).map(stage),
  store: { url: "s3://logs/odradek", metadata_lost: false, last_success_age_seconds: 0.1, errors_last_minute: 2, calls: [call("put", "ok", 244, 64), call("put", "slow_down", 2, 64), call("get", "ok", 31, 22)] },
  coordinator: { url: "redis-sentinel://redis:26379/0", metadata_lost: false, last_success_age_seconds: 0.2, errors_last_minute: 0, calls: [call("commit", "ok", 244, 1.4), call("find", "ok", 96, 0.8), call("renew", "ok", 29, 0.7)] },
  cost: { since_ms: 0, saved_dollars: 162.34, baseline_dollars: [], spent_dollars: { put: 5.31, get: 0.18, list: 0, storage: 1.02, cross_zone: 0.01 }, saved_dollars_per_month: 1648.2, zones: [], requests: {}, advice: null },
  topics: Array.from({ length: topics }, (_, at) => topic(at)),
});

export const serve = async (page, topics) => {
  const html = await readFile(page);
  const state = { requests: 0, silent: false };
  const server = createServer((request, response) => {
    if (request.url === "/") return response.setHeader("content-type", "text/html; charset=utf-8").end(html);
    if (request.url !== "/status.json") return response.writeHead(404).end();
    state.requests += 1;
    if (state.silent) return response.writeHead(503).end();
    response.setHeader("content-type", "application/json").end(JSON.stringify(status(state.requests, topics)));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/`, state, close: () => server.close() };
};
