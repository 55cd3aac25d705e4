// The script of ../README.md for kafkajs: script.js BOOTSTRAP RUN DISKLESS CLASSIC
//
// kafkajs cannot assign partitions by hand, so everything is read through a group; it mends an offset out of range
// by itself, and answers "the end" where no record is young enough: those lines differ from the other clients'.
'use strict';

const assert = require('node:assert');
const { createHash } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs');
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');

const [bootstrap, run, diskless, classic] = process.argv.slice(2);
const PARTITIONS = 3;
const KINDS = ['diskless', 'classic'];
const names = { diskless, classic };
const kafka = new Kafka({ clientId: 'matrix', brokers: [bootstrap], logLevel: logLevel.NOTHING });
const admin = kafka.admin();

// A partition is [topic, partition]; the maps are keyed by its label. `next` holds the next offset of every
// partition: the program is the only writer, so it knows.
const all = KINDS.flatMap((kind) => [...Array(PARTITIONS).keys()].map((p) => ({ label: `${kind} p${p}`, topic: names[kind], partition: p })));
const next = Object.fromEntries(all.map((at) => [at.label, 0]));
const labelOf = (topic, partition) => all.find((at) => at.topic === topic && at.partition === partition).label;
const partitionOf = (kind, p) => all.find((at) => at.topic === names[kind] && at.partition === p);

const say = (...words) => console.log(words.join(' '));
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);
const text = (bytes) => {
  if (bytes === null || bytes === undefined) return 'null';
  return bytes.length > 100 ? `${bytes.length}#${sha(bytes)}` : bytes.toString();
};
const headerText = (headers) => Object.entries(headers || {})
  .flatMap(([key, values]) => (Array.isArray(values) ? values : [values]).map((value) => `${key}=${text(value)}`)).join(',');
const canonical = (r) => `${r.offset}|${r.timestamp}|${text(r.key)}|${text(r.value)}|${headerText(r.headers)}`;
const digest = (records) => sha(records.map((r) => canonical(r) + '\n').join(''));

function consecutive(offsets, first) {
  const right = offsets.every((offset, i) => offset === first + i);
  return right ? `${offsets[0]}..${offsets.at(-1)} ok` : `${offsets} WRONG`;
}

async function outcome(action) {
  try {
    return (await action()) === false ? 'error=36' : 'ok'; // createTopics says false where others throw
  } catch (e) {
    for (let cause = e; cause; cause = cause.cause) if (cause.code > 0) return `error=${cause.code}`;
    throw e;
  }
}

async function waitFor(what, done, seconds = 30) {
  for (const deadline = Date.now() + seconds * 1000; !done(); await sleep(20)) {
    if (Date.now() > deadline) throw new Error(`gave up waiting: ${what()}`);
  }
}

// A broker that has not heard of a new topic yet says so; the next try asks another, or later.
async function eventually(action) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await action();
    } catch (e) {
      if (e.code !== 3 || attempt === 100) throw e;
      await sleep(100);
    }
  }
}

// ---- producing

async function withProducer(options, use) {
  const producer = kafka.producer({ ...options, maxInFlightRequests: 1, allowAutoTopicCreation: false });
  await producer.connect();
  try {
    return await use(producer);
  } finally {
    await producer.disconnect();
  }
}

const message = (at, n, key, value, headers) => ({ partition: at.partition, timestamp: String(1_000_000 + 10 * n), key, value, headers });

function numbered(at) {
  const n = next[at.label]++;
  return message(at, n, `k${n}`, `${at.label} n${n}`);
}

// `count` records to every partition in one call, both topics mixed; the offsets acknowledged.
async function fill(producer, count, options) {
  const topicMessages = KINDS.map((kind) => ({
    topic: names[kind],
    messages: Array.from({ length: count }, () => all.filter((at) => at.topic === names[kind]).map(numbered)).flat(),
  }));
  const answers = await producer.sendBatch({ acks: -1, ...options, topicMessages });
  return Object.fromEntries(answers.map((a) =>
    [labelOf(a.topicName, a.partition), Array.from({ length: count }, (_, i) => Number(a.baseOffset) + i)]));
}

async function codecs() {
  for (const [name, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy]]) {
    const first = { ...next };
    await withProducer({ idempotent: true }, async (producer) => {
      const offsets = await fill(producer, 10, { compression });
      // A second call: the sequence numbers must go on from the first batch's.
      const more = await fill(producer, 10, { compression });
      for (const { label } of all) {
        say(`produce idempotent acks=all ${name} ${label} offsets ${consecutive([...offsets[label], ...more[label]], first[label])}`);
      }
    });
  }
}

async function acks() {
  const first = { ...next };
  const offsets = await withProducer({}, (producer) => fill(producer, 5, { acks: 1 }));
  for (const { label } of all) say(`produce acks=1 ${label} offsets ${consecutive(offsets[label], first[label])}`);
  await withProducer({}, (producer) => fill(producer, 5, { acks: 0 }));
  // acks=0 is answered by nobody: the end offset tells when it has arrived.
  let ends = {};
  for (let i = 0; i < 100; i++) {
    ends = Object.fromEntries(Object.entries(await bounds()).map(([label, [, end]]) => [label, end]));
    if (all.every(({ label }) => ends[label] === next[label])) break;
    await sleep(100);
  }
  for (const { label } of all) say(`produce acks=0 ${label} end ${ends[label]}`);
}

async function shapes(reader) {
  const shapesOf = [[null, 'no key'], ['no value', null], ['empty value', ''], ['', 'empty key'], ['ключ', 'žluťoučký'],
    ['k', 'headers', { a: ['1', '2'], c: '' }]]; // it has no null header values
  await withProducer({ idempotent: true }, async (producer) => {
    for (const kind of KINDS) {
      const at = partitionOf(kind, 0);
      const first = next[at.label];
      for (const [key, value, headers] of shapesOf) {
        await producer.send({ topic: at.topic, messages: [message(at, next[at.label]++, key, value, headers)] });
      }
      for (const r of await reader.from(at, first, next[at.label])) say(`shape ${at.label} ${canonical(r)}`);
    }
  });
}

function largeValue(size, n) {
  const value = Buffer.alloc(size);
  for (let i = 0; i < size; i++) value[i] = (i * 31 + n) % 251;
  return value;
}

async function large() {
  await withProducer({ idempotent: true }, async (producer) => {
    for (const kind of KINDS) {
      const at = partitionOf(kind, 1);
      for (let i = 0; i < 4; i++) {
        const n = next[at.label]++;
        const [answer] = await producer.send({ topic: at.topic, messages: [message(at, n, null, largeValue(900_000, n))] });
        say(`large ${at.label} offset ${answer.baseOffset}`);
      }
    }
  });
  await withProducer({}, async (producer) => {
    for (const kind of KINDS) {
      const at = partitionOf(kind, 1);
      const send = () => producer.send({ topic: at.topic, messages: [message(at, 0, null, largeValue(1_200_000, 0))] });
      say(`too large ${at.label} ${await outcome(send)}`);
    }
  });
}

// ---- reading

class Member {
  static async join(group, options = {}) {
    const member = new Member();
    member.got = [];
    member.assigned = [];
    member.position = {};
    member.consumer = kafka.consumer({
      groupId: group, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 200,
      allowAutoTopicCreation: false, readUncommitted: true, ...options,
    });
    const { GROUP_JOIN, REBALANCING, CRASH } = member.consumer.events;
    member.consumer.on(GROUP_JOIN, ({ payload }) => {
      member.assigned = Object.entries(payload.memberAssignment).flatMap(([topic, ps]) => ps.map((p) => labelOf(topic, p)));
    });
    member.consumer.on(REBALANCING, () => { member.assigned = []; });
    member.consumer.on(CRASH, ({ payload }) => { if (!payload.restart) throw payload.error; });
    await member.consumer.connect();
    await member.consumer.subscribe({ topics: KINDS.map((kind) => names[kind]), fromBeginning: true });
    await member.consumer.run({
      autoCommit: false,
      eachMessage: async ({ topic, partition, message: m }) => {
        member.got.push({ ...m, label: labelOf(topic, partition), offset: Number(m.offset) });
        member.position[labelOf(topic, partition)] = Number(m.offset) + 1;
      },
    });
    return member;
  }

  take() {
    return this.got.splice(0);
  }

  // What is read after a seek: kafkajs drops what it fetched before it.
  async from(at, offset, end = 0) {
    await waitFor(() => 'the reader\'s assignment', () => this.assigned.includes(at.label));
    this.got = [];
    this.consumer.seek({ topic: at.topic, partition: at.partition, offset: String(offset) });
    const mine = () => this.got.filter((r) => r.label === at.label);
    await waitFor(() => `${at.label} from ${offset}`, () => mine().length > 0 && mine().at(-1).offset >= end - 1);
    return mine();
  }

  async commit() {
    await this.consumer.commitOffsets(all.filter(({ label }) => this.assigned.includes(label) && label in this.position)
      .map((at) => ({ topic: at.topic, partition: at.partition, offset: String(this.position[at.label]) })));
  }

  async close() {
    await this.consumer.disconnect();
  }
}

async function bounds() {
  const found = {};
  for (const kind of KINDS) {
    for (const p of await admin.fetchTopicOffsets(names[kind])) {
      found[labelOf(names[kind], p.partition)] = [Number(p.low), Number(p.high)];
    }
  }
  return found;
}

async function offsets() {
  const found = await bounds();
  for (const { label } of all) say(`offsets ${label} begin=${found[label][0]} end=${found[label][1]}`);
}

// Takes exactly the records up to `next` from all members together: none lost, none twice, in order.
async function collect(position, members) {
  const got = Object.fromEntries(all.map(({ label }) => [label, []]));
  const wanted = all.reduce((sum, { label }) => sum + next[label] - position[label], 0);
  let [count, order] = [0, 'order ok'];
  await waitFor(() => `group read ${count} of ${wanted}`, () => {
    for (const r of members.flatMap((member) => member.take())) {
      if (r.offset !== position[r.label]) order = `WRONG at ${r.label} ${r.offset}`;
      position[r.label] = r.offset + 1;
      got[r.label].push(r);
      count++;
    }
    return count >= wanted;
  }, 60);
  return { got, summary: `${count} sha256=${digest(all.flatMap(({ label }) => got[label]))} ${order}` };
}

const fromZero = () => Object.fromEntries(all.map(({ label }) => [label, 0]));

async function read(isolation) {
  const member = await Member.join(`reader-${isolation}-${run}`, { readUncommitted: isolation === 'read_uncommitted' });
  const { got } = await collect(fromZero(), [member]);
  await member.close();
  for (const { label } of all) {
    say(`read ${isolation} ${label} offsets ${consecutive(got[label].map((r) => r.offset), 0)} sha256=${digest(got[label])}`);
  }
}

async function seek(reader) {
  for (const kind of KINDS) {
    const at = partitionOf(kind, 1);
    const firstAt = async (offset) => (await reader.from(at, offset))[0].offset;
    for (const offset of [57, 0, next[at.label] - 1]) say(`seek ${at.label} offset=${offset} read=${await firstAt(offset)}`);
    // Exactly on a record, between two, before the first, after the last.
    for (const timestamp of [1_000_500, 1_000_495, 1, 9_999_999]) {
      const found = await admin.fetchTopicOffsetsByTimestamp(at.topic, timestamp);
      const offset = Number(found.find((p) => p.partition === at.partition).offset);
      const there = offset < next[at.label] ? `read=${await firstAt(offset)}` : 'end';
      say(`seek-by-time ${at.label} ts=${timestamp} offset=${offset} ${there}`);
    }
    say(`seek ${at.label} offset=1000000 reset read=${await firstAt(1_000_000)}`);
  }
}

// ---- the group

async function awaitAssignment(...members) {
  const shares = () => members.map((member) => member.assigned);
  await waitFor(() => `full assignment, have ${JSON.stringify(shares())}`, () =>
    shares().every((share) => share.length > 0) && shares().flat().length === all.length && new Set(shares().flat()).size === all.length, 60);
}

async function committed(group) {
  const found = await admin.fetchOffsets({ groupId: group, topics: KINDS.map((kind) => names[kind]) });
  for (const at of all) {
    const { offset } = found.find((t) => t.topic === at.topic).partitions.find((p) => p.partition === at.partition);
    say(`group committed ${at.label} ${offset}`);
  }
}

async function group() {
  const id = `${run}-group`;
  const position = fromZero();
  await withProducer({ idempotent: true }, async (producer) => {
    const first = await Member.join(id);
    say('group first read', (await collect(position, [first])).summary);
    await first.commit();
    await first.close();
    await committed(id);

    await fill(producer, 10);
    const a = await Member.join(id);
    say('group resumed read', (await collect(position, [a])).summary);
    await a.commit();

    const b = await Member.join(id);
    await awaitAssignment(a, b);
    say(`group rebalance 2 members share ${all.length} partitions ok`);
    await fill(producer, 5);
    say('group two members read', (await collect(position, [a, b])).summary);
    await a.commit();
    await b.commit();
    await b.close();

    await awaitAssignment(a);
    await fill(producer, 5);
    say('group takeover read', (await collect(position, [a])).summary);
    await a.commit();
    await a.close();
    await committed(id);
  });
}

// ---- admin

async function listed(...expected) {
  let found;
  for (let i = 0; i < 100; i++) {
    const present = await admin.listTopics();
    found = KINDS.flatMap((kind) => ['', '.tmp'].filter((suffix) => present.includes(names[kind] + suffix)).map((suffix) => kind + suffix));
    // A broker's metadata may lag behind the controller's answer.
    if (String(found) === String(expected)) break;
    await sleep(100);
  }
  return found.join(',');
}

async function describe(topic) {
  for (let i = 0; ; i++) {
    const { topics: [{ partitions }] } = await eventually(() => admin.fetchTopicMetadata({ topics: [topic] }));
    const nodes = (await admin.describeCluster()).brokers.map((b) => b.nodeId);
    const led = partitions.every((p) => nodes.includes(p.leader) && p.replicas.includes(p.leader) && p.isr.includes(p.leader));
    if (led || i === 100) return `partitions=${partitions.length} leaders=${led ? 'ok' : 'WRONG'}`;
    await sleep(100);
  }
}

async function config(topic, key) {
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: [key] }];
  const answer = await eventually(() => admin.describeConfigs({ includeSynonyms: false, resources }));
  return `${key}=${answer.resources[0].configEntries[0].configValue}`;
}

async function administer() {
  const create = (topic) => admin.createTopics({
    topics: [{ topic, numPartitions: 2, replicationFactor: -1, configEntries: [{ name: 'retention.ms', value: '86400000' }] }],
    waitForLeaders: false,
  });
  for (const kind of KINDS) {
    for (let i = 0; i < 2; i++) say(`admin create ${kind}.tmp ${await outcome(() => create(`${names[kind]}.tmp`))}`);
  }
  say('admin list', await listed('diskless', 'diskless.tmp', 'classic', 'classic.tmp'));
  for (const kind of KINDS) {
    say(`admin describe ${kind} ${await describe(names[kind])}`);
    say(`admin describe ${kind}.tmp ${await describe(`${names[kind]}.tmp`)}`);
    say(`admin config ${kind} ${await config(names[kind], 'max.message.bytes')}`);
    say(`admin config ${kind}.tmp ${await config(`${names[kind]}.tmp`, 'retention.ms')}`);
  }
  const remove = (kind) => outcome(async () => { await admin.deleteTopics({ topics: [`${names[kind]}.tmp`] }); });
  for (const kind of KINDS) say(`admin delete ${kind}.tmp ${await remove(kind)}`);
  say('admin list', await listed('diskless', 'classic'));
  // To a client with patience the topic is merely late.
  const impatient = kafka.admin({ retry: { retries: 0 } });
  await impatient.connect();
  for (const kind of KINDS) {
    const again = () => impatient.deleteTopics({ topics: [`${names[kind]}.tmp`] });
    say(`admin delete ${kind}.tmp ${await outcome(async () => { await again(); })}`);
  }
  await impatient.disconnect();
  // Every node is asked, and some answer for all: take the names once.
  const { groups } = await admin.listGroups();
  const mine = groups.map((g) => g.groupId).filter((id) => id.startsWith(`${run}-`)).map((id) => id.slice(run.length + 1));
  say('admin groups', [...new Set(mine)].sort().join(','));
}

async function main() {
  assert(classic, 'script.js BOOTSTRAP RUN DISKLESS CLASSIC');
  await admin.connect();
  await codecs();
  await acks();
  const reader = await Member.join(`reader-${run}`);
  await shapes(reader);
  await large();
  await offsets();
  await read('read_uncommitted');
  await read('read_committed');
  await seek(reader);
  await reader.close();
  await group();
  await administer();
  await admin.disconnect();
}

main().catch((e) => {
  console.error(e);
  process.exit(2);
});
