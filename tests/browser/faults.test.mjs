// Every fault that a visitor can click, and every key: what the page shows then, and what the
// cluster does.
import { test } from "node:test";
import { assert, browser, eventually, lab, leader, open } from "./harness.mjs";
import {
  PATIENCE, agree, id, node, numbersBut, openPanel, shown, succeeds, type, visitor,
} from "./visitor.mjs";

const is = (page, number, condition) =>
  node(page, number).and(page.locator(`[data-condition=${condition}]`)).waitFor(PATIENCE);
const link = (page, a, b) => id(page, `link-${Math.min(a, b)}-${Math.max(a, b)}`);
/// A level line has no height, and counts as hidden.
const isLink = (page, a, b, condition) =>
  link(page, a, b).and(page.locator(`[data-condition=${condition}]`))
    .waitFor({ ...PATIENCE, state: "attached" });
const of = (state, number) => state.nodes.find((node) => node.id === number);
const healed = (state) => state.links.length === 0 && agree(state);

test("a node's log, disk and clock by its buttons", async (t) => {
  const { page, rest: [victim] } = await visitor(t);
  const act = (name) => id(page, `action-${name}`).click();
  const troubles = (text) => node(page, victim).getByText(text).waitFor(PATIENCE);
  await page.keyboard.press("t");
  await succeeds(page, "put a 1");
  await openPanel(page, victim);

  await act("slow-disk");
  await troubles("disk 80 ms");
  await act("clock-fast");
  await troubles("clock ×1.5");
  const slow = await eventually(page, "both are told", (state) => of(state, victim).clock_rate > 1);
  assert.deepEqual([of(slow, victim).disk_latency_ms, of(slow, victim).clock_rate], [80, 1.5]);
  await act("fast-disk");
  await act("clock-slow");
  await troubles("clock ×0.5");
  await act("clock-right");
  await eventually(page, "all is right", (state) =>
    of(state, victim).disk_latency_ms === 0.5 && of(state, victim).clock_rate === 1);

  await act("tear-log");
  await is(page, victim, "down");
  await act("restart");
  await eventually(page, "what was torn off is sent again", agree);

  await act("corrupt-log");
  await is(page, victim, "down");
  await act("restart");
  await is(page, victim, "stopped");
  await id(page, "node-panel").getByText(/It stopped by itself: .*(corrupt|damaged)/).waitFor();
  assert.equal(of(await lab(page).state(), victim).condition, "stopped");
  await act("lose-disk");
  // A learner serves no terminal.
  await eventually(page, "a new member in its place, with a vote", (state) =>
    agree(state) && of(state, victim).role === "follower");

  await act("fill-disk");
  await troubles("disk full");
  assert.equal(of(await lab(page).state(), victim).disk_full, true);
  await page.keyboard.press("t");
  // The one whose disk is full ends the connection when it stops.
  const asked = leader(await eventually(page, "a leader", leader)).id;
  assert.notEqual(asked, victim);
  await succeeds(page, `put b 2 --endpoints=node${asked}:2379`);
  await is(page, victim, "stopped");
  await page.locator("h1").click();
  await page.keyboard.press("h");
  await eventually(page, "room again, and all data", (state) => agree(state) &&
    state.nodes.every((node) => node.revision === "3" && !node.disk_full));
});

test("leadership and links of a node by its buttons", async (t) => {
  const { page, rest: [one, other] } = await visitor(t);
  const leads = async (number) => {
    await node(page, number).and(page.locator("[data-role=leader]")).waitFor(PATIENCE);
    return eventually(page, `node ${number} leads`, (state) => leader(state)?.id === number);
  };
  const { term } = of(await lab(page).state(), one);
  await openPanel(page, one);
  await id(page, "action-elect").click();
  // It stands; whether it wins is the voters' business.
  const newer = await eventually(page, "a newer term has a leader", (state) =>
    Number(leader(state)?.term) > Number(term));
  const target = leader(newer).id === other ? one : other;
  await openPanel(page, target);
  await id(page, "action-transfer").click();
  await leads(target);

  await id(page, "action-isolate").click();
  for (const peer of numbersBut(await lab(page).state(), target)) {
    await isLink(page, target, peer, "cut");
  }
  const cut = await eventually(page, "four ways are cut", (state) => state.links.length === 4);
  assert.ok(cut.links.every((way) => way.cut && [way.from, way.to].includes(target)));
  const lost = await eventually(page, "the others have another leader", (state) =>
    state.nodes.some((node) => node.role === "leader" && node.id !== target));
  assert.equal(of(lost, target).up, true, "it runs, and hears nobody");
  await page.keyboard.press("h");
  await eventually(page, "three stores alike", healed);
});

test("a link by its buttons: cut, one way, slow, lossy, whole", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press("b");
  const box = await link(page, 2, 3).locator(".link-hit").boundingBox();
  const isOpen = () => id(page, "link-panel").isVisible();
  // A message that is just there is nearer than the link below it.
  while (!(await isOpen())) {
    await page.mouse.click(box.x + box.width * 0.5, box.y + box.height * 0.5);
    await id(page, "link-panel").or(id(page, "message-panel")).waitFor();
    const { paused } = await lab(page).state();
    if (paused) await page.keyboard.press(" ");
  }
  const act = async (name, condition, wanted) => {
    await id(page, `action-${name}`).click();
    await isLink(page, 2, 3, condition);
    return eventually(page, name, ({ links }) => wanted(links));
  };
  const ways = (links) => links.filter((way) => way.cut).map((way) => `${way.from}>${way.to}`);
  await act("cut", "cut", (links) => ways(links).join() === "2>3,3>2");
  await act("mend", "whole", (links) => links.length === 0);
  await act("cut-there", "one-way", (links) => ways(links).join() === "2>3");
  await id(page, "link-panel").getByText("From 2 to 3 nothing gets through.").waitFor();
  await act("mend", "whole", (links) => links.length === 0);
  await act("cut-back", "one-way", (links) => ways(links).join() === "3>2");
  await act("mend", "whole", (links) => links.length === 0);
  const all = (links, what) => links.length === 2 && links.every(({ network }) => what(network));
  await act("slow-link", "whole", (links) => all(links, (own) => own?.delay_ms === 200));
  await act("lossy-link", "whole", (links) => all(links, (own) => own?.loss === 0.3));
  await id(page, "link-panel").getByText("From 2 to 3: 200 ms of delay").waitFor();
  await act("mend", "whole", (links) => links.length === 0);
});

test("presets and sliders of the network", async (t) => {
  const { page, first } = await visitor(t);
  await id(page, "tab-faults").click();
  await id(page, "network-loss").fill("20");
  await id(page, "feed").getByText("The network has 20 % of loss now.").waitFor(PATIENCE);
  await id(page, "network-loss").fill("0");

  const { term } = of(await lab(page).state(), first);
  await id(page, "preset-minority").click();
  const cut = await eventually(page, "the leader is alone", (state) => state.links.length === 4);
  assert.ok(cut.links.every((way) => way.cut && [way.from, way.to].includes(first)));
  const newer = (node) => Number(node.term) > Number(term) && node.role === "leader";
  await eventually(page, "two leaders, in two terms", (state) =>
    state.nodes.some(newer) && of(state, first).role === "leader");
  await shown(page, "leader").nth(1).waitFor(PATIENCE);
  assert.equal(await shown(page, "leader").count(), 2);
  const caption = `Node ${first} still believes that it leads term ${term}`;
  await id(page, "situation").getByText(caption).waitFor(PATIENCE);
  await id(page, "heal").click();
  await eventually(page, "one cluster again", (state) => healed(state) && leader(state));

  await id(page, "preset-majority").click();
  await eventually(page, "a follower is alone", (state) => state.links.length === 4);
  await eventually(page, "the leader has a majority", leader);
  await id(page, "heal").click();
  await eventually(page, "one cluster again", (state) => healed(state) && leader(state));

  await id(page, "speed-full").click();
  for (const [preset, words] of [["flapping", "You cut all links"], ["rolling", "You crash"]]) {
    await id(page, `preset-${preset}`).click();
    await id(page, "feed").getByText(words).first().waitFor(PATIENCE);
    const over = page.locator(`[data-testid=preset-${preset}][aria-pressed=false]`);
    await over.waitFor(PATIENCE);
    await eventually(page, `${preset} is over`, (state) => healed(state) && leader(state));
  }
  assert.deepEqual((await lab(page).state()).violations, []);
});

test("every key does what the list of keys says", async (t) => {
  const { page, rest: [one] } = await visitor(t);
  const press = (key) => page.keyboard.press(key);
  const chosen = (name) =>
    page.locator(`[data-testid="speed-${name}"][aria-pressed=true]`).waitFor(PATIENCE);
  await press("-");
  await chosen("0.25");
  await press("+");
  await chosen("1");
  await press("b");
  await page.locator("[data-testid=heartbeats]:not(:checked)").waitFor(PATIENCE);

  await press("c");
  await id(page, "notice").getByText("Select a node first").waitFor();
  await press(String(one));
  const { term } = of(await lab(page).state(), one);
  await press("e");
  const stood = await eventually(page, "it stood", (state) =>
    Number(leader(state)?.term) > Number(term));
  const [next] = numbersBut(stood, leader(stood).id);
  await press(String(next));
  await press("l");
  await eventually(page, "it takes over", (state) => leader(state)?.id === next);
  await press("i");
  await eventually(page, "it is isolated", (state) => state.links.length === 4);
  await press("h");
  await eventually(page, "it is back", (state) => healed(state) && leader(state));
  await press("f");
  await eventually(page, "its disk is full", (state) => of(state, next).disk_full);
  await press("h");
  await eventually(page, "it has room", (state) => healed(state) && !of(state, next).disk_full);
  await press("n");
  await is(page, 4, "up");
  await eventually(page, "a voter more", (state) => of(state, 4)?.role === "follower");

  await press("Enter");
  await page.waitForFunction(() => document.activeElement.id === "panel-inspect");
  await press("Tab");
  const focused = () => page.evaluate(() => document.activeElement.dataset.testid);
  assert.match(await focused(), /^action-/, "the panel's first button");
  await press("Escape");
  await id(page, "overview").waitFor();
  await press("w");
  await page.waitForFunction(() => document.activeElement.id === "put-key");
  await press("Escape");
  await press("t");
  await page.waitForFunction(() => document.activeElement.id === "terminal-input");
  await press("Escape");
  await press(" ");
  const still = await eventually(page, "a pause", (state) => state.paused);
  await press(".");
  await eventually(page, "an event later", (state) => state.time_ms > still.time_ms);
});

test("the client's forms write, read, watch, lease and compare", async (t) => {
  const { page, rest: [follower] } = await visitor(t);
  const run = async (form, fields = {}, ended = true) => {
    await id(page, `form-${form}`).click();
    for (const [name, value] of Object.entries(fields)) {
      await id(page, `${form}-${name}`).fill(value);
    }
    await id(page, `${form}-run`).click();
    const output = id(page, `${form}-output`);
    if (!ended) return output;
    await output.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
    return output.innerText();
  };
  await page.keyboard.press("w");
  const watch = await run("watch", { key: "k" }, false);
  assert.match(await run("put", { key: "k", value: "1" }), /OK/);
  await run("put", { key: "k", value: "2" });
  await id(page, "form-watch").click();
  await watch.getByText("PUT\nk\n1\nPUT\nk\n2").waitFor(PATIENCE);
  assert.equal(await run("get", { key: "k" }), "k\n2\n");
  assert.equal(await run("get", { key: "k", rev: "2" }), "k\n1\n");
  await id(page, "client-node").selectOption(String(follower));
  await id(page, "get-consistency").selectOption("s");
  assert.equal(await run("get", { key: "k", rev: "" }), "k\n2\n");
  await eventually(page, "revision 3 everywhere", ({ nodes }) =>
    nodes.every((node) => node.revision === "3"));

  const txn = { key: "k", value: "2", "then-key": "k", "then-value": "3", "else-key": "k" };
  assert.match(await run("txn", txn), /SUCCESS\n\nOK/);
  assert.match(await run("txn"), /FAILURE\n\nk\n3/);
  const [, lease] = /lease ([0-9a-f]+) granted/.exec(await run("grant", { ttl: "60" }));
  assert.match(await run("put", { key: "leased", value: "1", lease }), /OK/);
  await id(page, "form-keep-alive").click();
  await id(page, "keep-alive-once").check();
  assert.match(await run("keep-alive", { lease }), /keepalived with TTL\(60\)/);
  assert.match(await run("revoke", { lease }), /revoked/);
  assert.equal(await run("get", { key: "leased" }), "");
  assert.equal(await run("delete", { key: "k" }), "1\n");
  await id(page, "form-watch").click();
  await watch.getByText("DELETE").waitFor(PATIENCE);
  await id(page, "watch-stop").click();
  await watch.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
  await eventually(page, "three stores alike", agree);
});

test("the terminal remembers and completes", async (t) => {
  const { page } = await visitor(t);
  await page.keyboard.press("t");
  await succeeds(page, "put a 1");
  const prompt = id(page, "terminal-input");
  await prompt.press("ArrowUp");
  assert.equal(await prompt.inputValue(), "put a 1");
  await prompt.fill("endpoint sta");
  await prompt.press("Tab");
  assert.equal((await prompt.inputValue()).trim(), "endpoint status");
  assert.equal((await type(page, "get --bogus")).code, "1");
});
