// A visitor with a browser of their own: what every test of the page begins with.
//
// xtask says where things are: CORACLE_URL (the site), CORACLE_CHROMIUM (the browser),
// CORACLE_NODE_MODULES (where playwright-core is).
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { CORACLE_URL, CORACLE_CHROMIUM, CORACLE_NODE_MODULES } = process.env;
const require = createRequire(`${CORACLE_NODE_MODULES}/`);
const { chromium } = require("playwright-core");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/// Virtual milliseconds in which any cluster here elects a leader, whatever just happened to it.
export const ELECTION_MS = 10_000;

/// A browser with a fresh profile, which is closed and deleted when the test ends. Fails the test
/// if a page of it reports an error that nobody caught, but those that are `expected`.
export async function browser(t, options = {}, expected = undefined) {
  const profile = await mkdtemp(join(tmpdir(), "coracle-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CORACLE_CHROMIUM,
    headless: true,
    args: FLAGS,
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  const errors = [];
  const note = (error) => expected?.test(error) || errors.push(error);
  context.on("weberror", (error) => note(String(error.error())));
  context.on("console", (message) => {
    if (message.type() === "error") note(message.text());
  });
  t.after(async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    assert.deepEqual(errors, [], "the page reported errors");
  });
  context.profile = profile;
  return context;
}

/// Opens the laboratory in a new tab and waits until its cluster is there.
export async function open(context, path = "") {
  const page = await context.newPage();
  await visit(page, path);
  return page;
}

export async function visit(page, path = "") {
  await page.goto(CORACLE_URL + path);
  await ready(page);
}

/// Waits until the page's cluster is there.
export async function ready(page) {
  await page.waitForFunction(() => window.coracle !== undefined);
  await page.evaluate(() => window.coracle.ready);
}

/// The laboratory's calls, from the test's side of the browser.
export function lab(page) {
  const call = (name) => (...given) =>
    page.evaluate(([name, given]) => window.coracle[name](...given), [name, given]);
  const names = ["state", "act", "exec", "run", "trace_hash", "save", "load", "start", "speed",
    "pause", "play", "take_over"];
  return Object.fromEntries(names.map((name) => [name, call(name)]));
}

/// The state, once it is as `wanted` says; for at most `seconds` of real time.
export async function eventually(page, what, wanted, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const state = await lab(page).state();
    if (wanted(state)) return state;
    if (Date.now() > end) {
      assert.fail(`not within ${seconds} s: ${what}; the state is ${JSON.stringify(state)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/// The one node that leads with the consent of a majority, or undefined.
export function leader(state) {
  const followed = (id) => state.nodes.filter((node) => node.up && node.leader === id).length;
  const voters = state.nodes.filter((node) => node.role !== "learner").length;
  return state.nodes.find(
    (node) => node.up && node.role === "leader" && followed(node.id) * 2 > voters,
  );
}

export { assert };
