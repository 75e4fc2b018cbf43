// What a visitor does with mouse and keys, and what the page then shows. Time runs as it does for
// a visitor, so every expectation is awaited.
import { test } from "node:test";
import { assert, browser, eventually, lab, leader, open } from "./harness.mjs";
import {
  PATIENCE, agree, dots, drag, id, node, numbersBut, shown, succeeds, type, visitor,
} from "./visitor.mjs";

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

test("a message is stopped on its way by clicking its dot", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press(" ");
  await eventually(page, "a pause", (state) => state.paused);
  // Heartbeats leave every 100 ms: some steps later one is between two nodes. What was drawn may
  // have arrived when it is clicked.
  const panel = id(page, "message-panel");
  for (let step = 0; step < 400 && !(await panel.isVisible()); step += 1) {
    const [dot] = await dots(page);
    if (dot) await page.mouse.click(dot.x, dot.y);
    else await page.keyboard.press(".");
  }
  await panel.waitFor();
  const number = await panel.getAttribute("data-id");
  const listed = page.locator(`[data-testid=message][data-id="${number}"]`);
  await listed.waitFor();
  await id(page, "message-drop").click();
  await listed.waitFor({ state: "detached" });
  await panel.getByText("It is no longer under way").waitFor();
  await id(page, "feed").getByText("You drop a message.").waitFor();
  const { actions } = JSON.parse(await lab(page).save());
  assert.deepEqual(actions.at(-1)[1], { drop_message: number });
  await page.keyboard.press(" ");
  await eventually(page, "time goes on", (state) => !state.paused);
});

test("a message is delayed by keys alone", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press(" ");
  await eventually(page, "a pause", (state) => state.paused);
  for (let step = 0; step < 400 && !(await id(page, "message").count()); step += 1) {
    await page.keyboard.press(",");
    // Answered after the step, and shown by the next frame: no step is under way when one is found.
    await lab(page).state();
    await page.evaluate(() => new Promise((drawn) =>
      requestAnimationFrame(() => requestAnimationFrame(drawn))));
  }
  await page.keyboard.press("m");
  const number = await id(page, "message-panel").getAttribute("data-id");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "panel-inspect");
  // Besides the buttons, a browser stops at whatever has to be scrolled.
  const reached = [];
  while (reached.at(-1) !== "message-delay-long") {
    assert.ok(reached.length < 8, `Tab reached ${reached}`);
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement.dataset.testid));
  }
  await page.keyboard.press("Enter");
  await id(page, "message-panel").getByText(/, 1?\d{3}\.?\d* ms away/).waitFor();
  const { actions } = JSON.parse(await lab(page).save());
  assert.deepEqual(actions.at(-1)[1], { delay_message: [number, 1000] });
});

test("a crashed node and a reloaded page: the data is back from the browser's files", async (t) => {
  const { page, rest } = await visitor(t);
  await page.keyboard.press("t");
  await succeeds(page, "put kept forever");
  await page.locator("h1").click();
  await page.keyboard.press(String(rest[0]));
  await page.keyboard.press("c");
  await node(page, rest[0]).and(page.locator("[data-condition=down]")).waitFor(PATIENCE);
  await page.reload();
  await page.locator("[data-testid=storage][data-kind=browser]").waitFor(PATIENCE);
  await shown(page, "leader").waitFor(PATIENCE);
  await eventually(page, "three stores alike", agree);
  await page.keyboard.press("t");
  assert.equal(await succeeds(page, "get kept"), "kept\nforever\n");
  assert.equal(await succeeds(page, "get kept --consistency=s", rest[0]), "kept\nforever\n");
});

test("an experiment is saved and loaded by its buttons, in another browser", async (t) => {
  const { page, first } = await visitor(t);
  await page.keyboard.press("t");
  await succeeds(page, "put a 1");
  await page.locator("h1").click();
  await page.keyboard.press(String(first));
  await page.keyboard.press("c");
  await node(page, first).and(page.locator("[data-condition=down]")).waitFor(PATIENCE);
  await page.keyboard.press(" ");
  await eventually(page, "a pause", (state) => state.paused);
  await id(page, "experiment").click();
  const [download] = await Promise.all([page.waitForEvent("download"), id(page, "save").click()]);
  assert.match(download.suggestedFilename(), /^coracle-\d+\.json$/);
  const [hash, { time_ms: time }] = [await lab(page).trace_hash(), await lab(page).state()];

  const other = await open(await browser(t));
  await id(other, "experiment").click();
  const button = other.locator("label", { hasText: "Load" });
  const [chooser] = await Promise.all([other.waitForEvent("filechooser"), button.click()]);
  await chooser.setFiles(await download.path());
  await node(other, first).and(other.locator("[data-condition=down]")).waitFor(PATIENCE);
  await eventually(other, "the end", (state) => state.paused && state.time_ms === time);
  assert.equal(await lab(other).trace_hash(), hash);
  await other.locator("[data-testid=pause][data-paused=true]").waitFor();

  await other.locator("[data-testid=experiment]").click();
  await id(other, "seed-input").fill("7");
  await id(other, "node-count").selectOption("5");
  await id(other, "restart-same").click();
  await node(other, 5).and(other.locator("[data-condition=up]")).waitFor(PATIENCE);
  assert.equal(await id(other, "seed").innerText(), "7");
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
