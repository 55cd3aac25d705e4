// Tests the console in a real browser.
//   check.mjs --page FILE                  with generated data: a thousand topics, hostile names, failures
//   check.mjs --live URL --topic NAME      on a real replica with traffic on this topic
//   --shots DIR                            writes screenshots to DIR
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { parseArgs } from "node:util";
import { createRequire } from "node:module";
import { HOSTILE, serve } from "./fixture.mjs";

// Modules are installed by `make setup`, outside the repository.
const modules = createRequire(`${process.env.CONSOLE_MODULES ?? process.cwd()}/`);
const { chromium } = modules("playwright-core");
const { AxeBuilder } = modules("@axe-core/playwright");

const { values: args } = parseArgs({ options: {
  page: { type: "string" }, live: { type: "string" }, topic: { type: "string" }, shots: { type: "string" },
} });
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

const open = async (url, options) => {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
  page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith("data:")) faults.push(`requests ${request.url()}`); });
  await page.goto(url, { waitUntil: "domcontentloaded" });
  await page.waitForFunction(() => window.odradek?.refreshes > 0);
  return { page, faults };
};
const judge = async (page, name) => {
  const { violations } = await new AxeBuilder({ page }).analyze();
  for (const v of violations) console.log(`axe, ${name}: ${v.impact} ${v.id}: ${v.nodes[0].html} ${v.nodes[0].failureSummary}`);
  assert.deepEqual(violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => v.id), [], name);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${name}: the page scrolls sideways by ${wide} px`);
};
const shot = async (page, name) => {
  if (!args.shots) return;
  await mkdir(args.shots, { recursive: true });
  await page.screenshot({ path: `${args.shots}/${name}.png`, fullPage: name !== "narrow" });
};
const looks = [
  ["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }],
  ["narrow", { colorScheme: "light", viewport: { width: 360, height: 740 } }],
];

const generated = async () => {
  const { url, state, close } = await serve(args.page, 1000);
  for (const [name, options] of looks) {
    const { page, faults } = await open(url, options);
    await judge(page, name);
    await shot(page, name);
    assert.deepEqual(faults, [], name);
    await page.context().close();
  }
  const { page, faults } = await open(url);
  const text = (selector) => page.locator(selector).innerText();

  // The page refreshes.
  const before = await text("#where");
  await page.waitForFunction((before) => document.querySelector("#where").innerText !== before, before);
  const drawn = await page.evaluate(() => window.odradek.drawn_ms);
  const rows = await page.locator("#topics-body tr").count();
  console.log(`1,000 topics: ${rows} rows, a refresh takes ${drawn.toFixed(1)} ms of script`);
  assert.ok(rows > 0 && rows <= 100, `${rows} rows`);

  // By keyboard alone: sort, filter, turn the page.
  const seen = [];
  for (let at = 0; at < 40; at += 1) {
    await page.keyboard.press("Tab");
    seen.push(await page.evaluate(() => document.activeElement.innerText || document.activeElement.id));
  }
  for (const expected of ["Skip to topics", "Topic", "Saved", "filter", "Next"]) assert.ok(seen.includes(expected), `Tab does not reach ${expected}: ${seen}`);
  await page.locator("#topics-head button").first().focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#topics-head th").first().getAttribute("aria-sort"), "ascending");
  const first = await text("#topics-body tr:first-child td:first-child");
  await page.locator("#next").focus();
  await page.keyboard.press("Enter");
  assert.notEqual(await text("#topics-body tr:first-child td:first-child"), first);
  await page.locator("#filter").focus();
  await page.keyboard.type("service-0640");
  assert.equal(await text("#topics-count"), "1 of 1000");
  assert.match(await text("#topics-body"), /less per month as a classic topic/);
  await page.locator("#filter").fill("nothing like it");
  assert.match(await text("#topics-body"), /No topic matches/);
  await page.locator("#filter").fill("");

  // Names are shown as text.
  await page.locator("#filter").fill("<img");
  assert.equal(await text("#topics-body td:first-child"), HOSTILE);
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.deepEqual(faults, []);

  // Failures of the replica are shown, and the page recovers.
  state.silent = true;
  await page.waitForFunction(() => document.querySelector("#alert").innerText.startsWith("No response since"));
  assert.equal(await text("#state"), "no response");
  await judge(page, "no response");
  state.silent = false;
  await page.waitForFunction(() => document.querySelector("#alert").innerText === "");
  assert.equal(await text("#state"), "ready");
  close();

  // Screenshots for the README.
  const few = await serve(args.page, 9);
  for (const colorScheme of args.shots ? ["light", "dark"] : []) {
    const { page } = await open(few.url, { colorScheme, viewport: { width: 1200, height: 1080 } });
    await page.waitForTimeout(400);
    await page.screenshot({ path: `${args.shots}/console-${colorScheme}.png` });
  }
  const { page: single } = await open(few.url);
  assert.equal(await single.locator("#pager").isVisible(), false, "the pager is hidden for a single page");
  few.close();

  // Without topics.
  const empty = await serve(args.page, 0);
  const { page: none } = await open(empty.url);
  assert.match(await none.locator("#topics-body").innerText(), /No diskless topics yet/);
  await judge(none, "empty");
  empty.close();
};

const live = async () => {
  for (const [name, options] of looks) {
    const { page, faults } = await open(args.live, options);
    await page.waitForFunction((topic) => document.querySelector("#topics-body").innerText.includes(topic), args.topic);
    for (const expected of ["upload", "commit"]) assert.match(await page.locator("#produce").innerText(), new RegExp(expected));
    assert.match(await page.locator("#zones").innerText(), /this one/);
    assert.equal(await page.locator("#state").innerText(), "ready");
    await judge(page, name);
    await shot(page, `live-${name}`);
    assert.deepEqual(faults, [], name);
    await page.context().close();
  }
};

try {
  if (args.page) await generated();
  if (args.live) await live();
  console.log("the console passed all checks");
} finally {
  await browser.close();
}
