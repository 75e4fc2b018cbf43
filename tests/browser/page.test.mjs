// What a visitor does with mouse and keys, and what the page then shows. Time runs as it does for
// a visitor, so every expectation is awaited.
import { test } from "node:test";
import { assert, browser, eventually, lab, leader, open } from "./harness.mjs";

/// For what a cluster on a busy machine needs at the speed of real time.
const PATIENCE = { timeout: 60_000 };

const id = (page, name) => page.getByTestId(name);
const node = (page, number) => id(page, `node-${number}`);
const shown = (page, role) => page.locator(`[data-testid^=node-][data-role=${role}]`);

/// A page whose cluster has a leader, in the page's own eyes too; its number.
async function visitor(t) {
  const page = await open(await browser(t));
  await shown(page, "leader").waitFor(PATIENCE);
  const state = await eventually(page, "a leader", leader);
  return { page, first: leader(state).id, rest: numbersBut(state, leader(state).id) };
}

const numbersBut = (state, ...out) =>
  state.nodes.map(({ id }) => id).filter((id) => !out.includes(id));

/// Types a command into the terminal, waits for its end, and returns what stands there.
async function type(page, line, number) {
  if (number) await id(page, "terminal-node").selectOption(String(number));
  const before = await id(page, "run").count();
  await id(page, "terminal-input").fill(line);
  await id(page, "terminal-input").press("Enter");
  const run = id(page, "run").nth(before);
  await run.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
  return { code: await run.getAttribute("data-code"), text: await run.locator("pre").innerText() };
}

async function succeeds(page, line, number) {
  const { code, text } = await type(page, line, number);
  assert.equal(code, "0", `${line}: ${text}`);
  return text;
}

/// Drags from one node to another with the mouse: cuts the link, or mends it.
async function drag(page, from, to) {
  const middle = async (number) => {
    const box = await node(page, number).locator(".node-body").boundingBox();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [start, end] = [await middle(from), await middle(to)];
  await page.mouse.move(...start);
  await page.mouse.down();
  await page.mouse.move(...end, { steps: 8 });
  await page.mouse.up();
}

/// All nodes run and have the same store.
const agree = ({ nodes }) =>
  nodes.every((node) => node.up) && new Set(nodes.map((node) => node.store_hash)).size === 1;

test("a visitor sees a leader and crashes it with a click", async (t) => {
  const { page, first } = await visitor(t);
  await node(page, first).locator(".node-body").click();
  await id(page, "node-panel").and(page.locator(`[data-node="${first}"]`)).waitFor();
  await id(page, "action-crash").click();
  await node(page, first).and(page.locator("[data-condition=down]")).waitFor(PATIENCE);
  const state = await eventually(page, "another leader", (state) => {
    const second = leader(state);
    return second && second.id !== first;
  });
  await node(page, leader(state).id).and(page.locator("[data-role=leader]")).waitFor(PATIENCE);
  await page.keyboard.press("t");
  assert.match(await succeeds(page, "put greeting hello"), /OK/);
  await id(page, "action-restart").click();
  await eventually(page, "three stores alike", agree);
});

test("a partition by dragging: the minority serves the past only", async (t) => {
  const { page, first, rest } = await visitor(t);
  await page.keyboard.press("t");
  await succeeds(page, "put a old");
  for (const other of rest) await drag(page, first, other);
  const cut = (state) => state.links.filter((link) => link.cut).length;
  await eventually(page, "four cut ways", (state) => cut(state) === 4);
  await eventually(page, "a leader of the majority", (state) => {
    const second = state.nodes.find((node) => node.role === "leader" && node.id !== first);
    return second !== undefined;
  });
  await succeeds(page, "put a new", rest[0]);
  const refused = await type(page, "get a --command-timeout=2s", first);
  assert.equal(refused.code, "1");
  assert.match(await succeeds(page, "get a --consistency=s", first), /a\nold/);
  await page.locator("h1").click();
  await page.keyboard.press("h");
  await eventually(page, "three stores alike", (state) => state.links.length === 0 && agree(state));
});

test("keys: pause and resume a leader, lose a disk", async (t) => {
  const { page, first } = await visitor(t);
  await page.keyboard.press(String(first));
  await page.keyboard.press("p");
  await node(page, first).and(page.locator("[data-condition=paused]")).waitFor(PATIENCE);
  const state = await eventually(page, "another leader", (state) => {
    const second = state.nodes.find((node) => node.role === "leader" && node.up);
    return second && second.id !== first;
  });
  await page.keyboard.press("p");
  await node(page, first).and(page.locator("[data-condition=up]")).waitFor(PATIENCE);
  await eventually(page, "it follows", (state) => state.nodes[first - 1].role === "follower");

  const [victim] = numbersBut(state, first, leader(state)?.id ?? first);
  await page.keyboard.press(String(victim));
  await page.keyboard.press("d");
  await eventually(page, "it is back with all data", agree, 60);
});

test("a learner joins by a click, is promoted by a key, and a voter is removed", async (t) => {
  const { page, rest } = await visitor(t);
  await id(page, "tab-faults").click();
  await id(page, "add-learner").click();
  await node(page, 4).and(page.locator("[data-role=learner]")).waitFor(PATIENCE);
  await eventually(page, "it has caught up", ({ nodes }) => nodes[3]?.applied === nodes[0].applied);
  await page.keyboard.press("4");
  await page.keyboard.press("v");
  await node(page, 4).and(page.locator("[data-role=follower]")).waitFor(PATIENCE);
  await page.keyboard.press(String(rest[0]));
  await page.keyboard.press("Delete");
  const up = (state) => state.nodes.filter((node) => node.up).length;
  await eventually(page, "three are left", (state) => up(state) === 3);
});

test("a message is stopped on its way by clicking it", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press(" ");
  await eventually(page, "a pause", (state) => state.paused);
  // Heartbeats leave every 100 ms: some steps later one is under way.
  for (let step = 0; step < 400 && !(await id(page, "message").count()); step += 1) {
    await page.keyboard.press(".");
  }
  await id(page, "message").first().click();
  const panel = id(page, "message-panel");
  const number = await panel.getAttribute("data-id");
  await id(page, "message-drop").click();
  await page.locator(`[data-testid=message][data-id="${number}"]`).waitFor({ state: "detached" });
  await page.keyboard.press(" ");
  await eventually(page, "time goes on", (state) => !state.paused);
});

test("the terminal streams a watch from the past until it is stopped", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press("t");
  await succeeds(page, "put a 1");
  await id(page, "terminal-input").fill("watch a --rev=2");
  await id(page, "terminal-input").press("Enter");
  const watch = id(page, "run").nth(1);
  await watch.getByText("PUT").waitFor(PATIENCE);
  await succeeds(page, "put a 2");
  await page.waitForFunction(
    () => document.querySelectorAll("[data-testid=run]")[1].innerText.includes("PUT\na\n2"),
  );
  await watch.getByTestId("interrupt").click();
  await watch.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
});

test("etcd's words in the terminal: lease, compaction, a failing condition", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press("t");
  const [, lease] = /lease ([0-9a-f]+) granted/.exec(await succeeds(page, "lease grant 2"));
  await succeeds(page, `put --lease=${lease} a 1`);
  const gone = (state) => agree(state) && state.nodes.every((node) => node.revision === "3");
  await eventually(page, "the key is gone everywhere", gone);
  await succeeds(page, "put b 1");
  assert.match(await succeeds(page, "compaction 3"), /compacted revision 3/);
  const past = await type(page, "get b --rev=2");
  assert.match(past.text, /Error: etcdserver: mvcc: required revision has been compacted/);

  await id(page, "terminal-input").fill("txn");
  await id(page, "terminal-input").press("Enter");
  const run = id(page, "run").nth(5);
  for (const line of ['value("b") = "2"', "", "put b never", "", "get b", ""]) {
    await id(page, "terminal-input").fill(line);
    await id(page, "terminal-input").press("Enter");
  }
  await run.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
  assert.match(await run.locator("pre").innerText(), /FAILURE\n\nb\n1/);
});

test("a second tab says that it is one, and takes over by a click", async (t) => {
  const context = await browser(t);
  const [first, second] = [await open(context), await open(context)];
  await id(second, "take-over-banner").waitFor(PATIENCE);
  await id(second, "take-over").click();
  await id(first, "fatal").waitFor(PATIENCE);
  await second.locator("[data-testid=storage][data-kind=browser]").waitFor(PATIENCE);
  await eventually(second, "a leader", leader);
  await assert.rejects(lab(first).state(), /took this browser's disks/);
});

test("the list of keys opens and closes", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press("?");
  await id(page, "help").waitFor();
  await page.keyboard.press("Escape");
  await id(page, "help").waitFor({ state: "detached" });
});
