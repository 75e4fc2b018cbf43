// A visitor's hands and eyes: what the tests of the page click, type and read with.
import { assert, browser, eventually, leader, open } from "./harness.mjs";

/// For what a cluster on a busy machine needs at the speed of real time.
export const PATIENCE = { timeout: 60_000 };

export const id = (page, name) => page.getByTestId(name);
export const node = (page, number) => id(page, `node-${number}`);
export const shown = (page, role) => page.locator(`[data-testid^=node-][data-role=${role}]`);

/// A page whose cluster has a leader, in the page's own eyes too; its number.
export async function visitor(t) {
  const page = await open(await browser(t));
  await shown(page, "leader").waitFor(PATIENCE);
  const state = await eventually(page, "a leader", leader);
  return { page, first: leader(state).id, rest: numbersBut(state, leader(state).id) };
}

export const numbersBut = (state, ...out) =>
  state.nodes.map(({ id }) => id).filter((id) => !out.includes(id));

/// Types a command into the terminal, waits for its end, and returns what stands there.
export async function type(page, line, number) {
  if (number) await id(page, "terminal-node").selectOption(String(number));
  const before = await id(page, "run").count();
  await id(page, "terminal-input").fill(line);
  await id(page, "terminal-input").press("Enter");
  const run = id(page, "run").nth(before);
  await run.and(page.locator("[data-state=ended]")).waitFor(PATIENCE);
  return { code: await run.getAttribute("data-code"), text: await run.locator("pre").innerText() };
}

export async function succeeds(page, line, number) {
  const { code, text } = await type(page, line, number);
  assert.equal(code, "0", `${line}: ${text}`);
  return text;
}

/// Drags from one node to another with the mouse: cuts the link, or mends it.
export async function drag(page, from, to) {
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
export const agree = ({ nodes }) =>
  nodes.every((node) => node.up) && new Set(nodes.map((node) => node.store_hash)).size === 1;

/// Opens the panel of a node by clicking it.
export async function openPanel(page, number) {
  await node(page, number).locator(".node-body").click();
  await id(page, "node-panel").and(page.locator(`[data-node="${number}"]`)).waitFor();
}

/// Where dots are seen on the canvas, clear of all nodes: places in the window.
export async function dots(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector("[data-testid=message-canvas]");
    const area = canvas.getBoundingClientRect();
    const scale = canvas.width / area.width;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const found = [];
    for (let y = 0; y < canvas.height; y += 2) {
      for (let x = 0; x < canvas.width; x += 2) {
        if (data[(y * canvas.width + x) * 4 + 3] < 128) continue;
        const at = { x: area.left + x / scale, y: area.top + y / scale };
        const known = found.find((dot) => Math.hypot(dot.x - at.x, dot.y - at.y) < 9);
        if (!known) found.push(at);
      }
    }
    const nodes = [...document.querySelectorAll(".node-body")].map((body) => {
      const box = body.getBoundingClientRect();
      return { x: box.x + box.width / 2, y: box.y + box.height / 2, reach: box.width / 2 + 22 };
    });
    const isClear = (dot) =>
      nodes.every((node) => Math.hypot(dot.x - node.x, dot.y - node.y) > node.reach);
    return found.filter(isClear);
  });
}
