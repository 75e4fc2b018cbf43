// What a visitor's browser may lack: each is told in one sentence, with what still works.
import { test } from "node:test";
import { assert, browser, eventually, lab, leader } from "./harness.mjs";
import { PATIENCE, id, node, shown, succeeds } from "./visitor.mjs";

const { CORACLE_URL } = process.env;

/// A page whose workers begin with `script`, as if their browser were another one.
async function visit(t, { page: onPage, workers }) {
  const context = await browser(t, {}, /SyntaxError|does not start/);
  const page = await context.newPage();
  if (onPage) await page.addInitScript(onPage);
  if (workers) {
    await context.route("**/worker.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `${workers}\n${await response.text()}` });
    });
  }
  await page.goto(CORACLE_URL);
  return page;
}

test("without WebAssembly there is a sentence", async (t) => {
  const page = await visit(t, { page: "delete window.WebAssembly" });
  const problem = page.locator("#problem");
  await problem.waitFor(PATIENCE);
  assert.match(await problem.innerText(), /takes WebAssembly.*documentation work without\./);
});

test("where the parts of the program do not fit there is a sentence", async (t) => {
  const context = await browser(t, {}, /does not start/);
  await context.route("**/coracle-opcodes.wasm", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: (await response.body()).subarray(0, 1000) });
  });
  const page = await context.newPage();
  await page.goto(CORACLE_URL);
  const problem = page.locator("#problem");
  await problem.waitFor(PATIENCE);
  assert.match(await problem.innerText(), /does not start: .*parts are of two builds/);
});

test("without workers there is a sentence, and the page stays", async (t) => {
  const page = await visit(t, { page: "delete window.Worker" });
  const fatal = id(page, "fatal");
  await fatal.waitFor(PATIENCE);
  assert.match(await fatal.innerText(), /does not start .*Web Workers of type module/s);
  await page.keyboard.press("?");
  await id(page, "help").waitFor();
  await assert.rejects(lab(page).state(), /does not start/);
});

test("where workers cannot be modules there is a sentence", async (t) => {
  // Such a browser runs the module as a script, and stumbles at its first line.
  const page = await visit(t, { workers: "this is no script" });
  const fatal = id(page, "fatal");
  await fatal.waitFor(PATIENCE);
  assert.match(await fatal.innerText(), /Web Workers of type module/);
});

for (const [what, workers] of [
  ["files (OPFS)", "delete StorageManager.prototype.getDirectory;"],
  ["a place to store", "delete WorkerNavigator.prototype.storage;"],
  ["locks", "delete WorkerNavigator.prototype.locks;"],
]) {
  test(`without ${what} the cluster runs in memory, and says so`, async (t) => {
    const page = await visit(t, { workers });
    const storage = page.locator("[data-testid=storage][data-kind=memory]");
    await storage.waitFor(PATIENCE);
    await storage.locator("summary").click();
    const sentence = await storage.locator("p").innerText();
    assert.match(sentence, /disks are in memory and end with this page\. Everything else works\./);
    await shown(page, "leader").waitFor(PATIENCE);
    await page.keyboard.press("t");
    await succeeds(page, "put a 1");
    const state = await eventually(page, "a leader", leader);
    await page.locator("h1").click();
    await page.keyboard.press(String(leader(state).id));
    await page.keyboard.press("c");
    await node(page, leader(state).id).and(page.locator("[data-condition=down]")).waitFor(PATIENCE);
  });
}

test("a browser that gives no more room stops the node that wanted it, in its words", async (t) => {
  const page = await visit(t, {});
  await shown(page, "leader").waitFor(PATIENCE);
  const session = await page.context().newCDPSession(page);
  const { origin } = new URL(CORACLE_URL);
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 });
  const stopped = page.locator("[data-condition=stopped]").first();
  for (let put = 0; put < 400 && !(await stopped.count()); put += 1) {
    await lab(page).exec(`put key${put} ${"v".repeat(20_000)} --command-timeout=1s`);
  }
  await stopped.waitFor(PATIENCE);
  await page.keyboard.press(await stopped.getAttribute("data-node"));
  await id(page, "node-panel").getByText(/It stopped by itself: .*(quota|space|room)/i).waitFor();
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  await page.keyboard.press("h");
  await eventually(page, "all run again", ({ nodes }) => nodes.every((node) => node.up), 60);
});
