// Measures the laboratory for `cargo xtask bench --www`, which says what was built (CORACLE_SIZES)
// and where the report is (CORACLE_REPORT).
import { readFile, readdir, writeFile } from "node:fs/promises";
import { cpus, loadavg, release } from "node:os";
import { ELECTION_MS, browser, lab, leader, open } from "./harness.mjs";

const { CORACLE_URL, CORACLE_SIZES, CORACLE_REPORT } = process.env;
const IN_FLIGHT = 64;
const PUTS = 5000;
const VALUE = "v".repeat(256);
const MINUTES = 60;
/// The long run is looked at so often.
const PARTS = 4;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function quantiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { median: at(0.5), p95: at(0.95), count: sorted.length };
}

/// Runs `work` in a browser of its own, with an empty cache.
async function fresh(work) {
  const closing = [];
  const context = await browser({ after: (close) => closing.push(close) });
  try {
    return await work(context);
  } finally {
    for (const close of closing) await close();
  }
}

/// Milliseconds from navigation to the first leader that the page shows.
async function firstLeader() {
  const runs = [];
  for (let run = 0; run < 5; run += 1) {
    runs.push(await fresh(async (context) => {
      const page = await context.newPage();
      await page.goto(CORACLE_URL, { waitUntil: "commit" });
      const shown = page.locator("[data-testid^=node-][data-role=leader]");
      await shown.waitFor({ timeout: 60_000 });
      return page.evaluate(() => performance.now());
    }));
  }
  return quantiles(runs);
}

/// The processes of this browser, with what they were started as.
async function processesOf(context) {
  const processes = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name))) {
    const read = (name) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    const [status, command] = [await read("status"), await read("cmdline")];
    const number = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
    processes.push({ pid: Number(pid), parent: number("PPid"), rss: number("VmRSS"), command });
  }
  const ours = new Set(
    processes.filter(({ command }) => command.includes(context.profile)).map(({ pid }) => pid),
  );
  for (let known = -1; known < ours.size; ) {
    known = ours.size;
    for (const { pid, parent } of processes) if (ours.has(parent)) ours.add(pid);
  }
  return processes.filter(({ pid }) => ours.has(pid));
}

/// The processor time of each thread of this browser so far, in microseconds.
async function processorTimes(context) {
  const threads = [];
  for (const { pid, command } of await processesOf(context)) {
    for (const tid of await readdir(`/proc/${pid}/task`).catch(() => [])) {
      const stat = await readFile(`/proc/${pid}/task/${tid}/stat`, "utf8").catch(() => "");
      const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
      // The 14th and 15th fields, in hundredths of a second.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const micros = (Number(fields[11]) + Number(fields[12])) * 10_000;
      const isPage = command.includes("--type=renderer") && Number(tid) === pid;
      threads.push({ tid: Number(tid), name: isPage ? "page" : name, micros: micros || 0 });
    }
  }
  return threads;
}

/// What one put cost: the page's thread, the conductor's, the nodes', and all others.
function costs(before, after, count) {
  const former = new Map(before.map(({ tid, micros }) => [tid, micros]));
  const spent = after.map((thread) => ({
    ...thread,
    micros: (thread.micros - (former.get(thread.tid) ?? 0)) / count,
  }));
  const sum = (threads) => Math.round(threads.reduce((total, { micros }) => total + micros, 0));
  // The conductor's worker is made first.
  const workers = spent.filter(({ name }) => name === "DedicatedWorker");
  const [conductor, ...nodes] = workers.sort((one, other) => one.tid - other.tid);
  const pages = spent.filter(({ name }) => name === "page");
  const rest = spent.filter((thread) => ![...workers, ...pages].includes(thread));
  const each = nodes.map((node) => sum([node])).filter((micros) => micros > 0).join(" + ");
  return `${sum(pages)}, ${sum([conductor])}, ${each}, ${sum(rest)} µs`;
}

/// Committed puts per second: so many at once, as fast as it goes, nothing virtual in the way.
async function puts(storage) {
  return fresh(async (context) => {
    const page = await open(context);
    const coracle = lab(page);
    const network = { delay_us: 0, jitter_us: 0, loss_ppm: 0, duplicate_ppm: 0 };
    await coracle.start({ storage, network, disk_latency_us: 0 });
    await coracle.run(ELECTION_MS);
    await coracle.speed("full");
    const { id } = leader(await coracle.state());
    const before = await processorTimes(context);
    const measured = await page.evaluate(async ([total, inFlight, value, node]) => {
      let next = 0;
      const caller = async () => {
        while (next < total) {
          next += 1;
          const { code, stderr } = await coracle.exec(`put key${next % 1000} ${value}`, { node });
          if (code !== 0) throw new Error(stderr);
        }
      };
      const start = performance.now();
      await Promise.all(Array.from({ length: inFlight }, caller));
      return (performance.now() - start) / 1000;
    }, [PUTS, IN_FLIGHT, VALUE, id]);
    const cost = costs(before, await processorTimes(context), PUTS);
    return { rate: PUTS / measured, cost };
  });
}

/// Milliseconds between animation frames while nodes talk at the speed of real time.
async function frames(nodes) {
  return fresh(async (context) => {
    const page = await open(context);
    await lab(page).start({ nodes });
    await lab(page).play();
    await sleep(5000);
    const times = await page.evaluate(() => new Promise((resolve) => {
      const times = [];
      let last = performance.now();
      const end = last + 10_000;
      const frame = (now) => {
        times.push(now - last);
        last = now;
        if (now < end) requestAnimationFrame(frame);
        else resolve(times.slice(1));
      };
      requestAnimationFrame(frame);
    }));
    return quantiles(times);
  });
}

/// The memory of all processes that draw pages and run workers in this browser, in bytes.
async function rendererMemory(context) {
  const processes = await processesOf(context);
  const renderers = processes.filter(({ command }) => command.includes("--type=renderer"));
  return renderers.reduce((sum, { rss }) => sum + (rss || 0) * 1024, 0);
}

/// An hour of virtual time: how long it takes, and what memory it leaves.
async function hour() {
  return fresh(async (context) => {
    const coracle = lab(await open(context));
    const samples = [];
    const start = Date.now();
    for (let part = 0; part < PARTS; part += 1) {
      await coracle.run((MINUTES * 60_000) / PARTS);
      samples.push(await rendererMemory(context));
    }
    const { violations } = await coracle.state();
    if (violations.length) throw new Error(violations.join("; "));
    return { seconds: (Date.now() - start) / 1000, samples };
  });
}

/// The lines of the report that `results` are.
function report({ sizes, leaderMs, browserPuts, memoryPuts, frames, hour, loads }) {
  const total = sizes.reduce((sum, [, brotli]) => sum + brotli, 0);
  const ms = ({ median, p95 }) => `${median.toFixed(1)} / ${p95.toFixed(1)} ms`;
  const mib = (bytes) => (bytes / 1024 / 1024).toFixed(0);
  const rate = (measured) => `${measured.rate.toFixed(0)} /s`;
  return [
    `- Machine: ${cpus().length} cores of ${cpus()[0].model.trim()}, Linux ${release()}; ` +
      "Chromium without a window, drawing in software; browser and measuring script share it.",
    `- Load average before: ${loads[0]}; after: ${loads[1]}.`,
    "",
    "| what | measured |",
    "|---|--:|",
    `| transfer, brotli | ${(total / 1000).toFixed(0)} kB |`,
    `| navigation to first leader on the page, cold cache, median / worst of 5 | ${ms(leaderMs)} |`,
    `| committed puts of 256 B, ${IN_FLIGHT} in flight, disks in OPFS | ${rate(browserPuts)} |`,
    `| processor time of one: page, conductor, nodes, drawing and files | ${browserPuts.cost} |`,
    `| the same puts, disks in memory | ${rate(memoryPuts)} |`,
    `| processor time of one, likewise | ${memoryPuts.cost} |`,
    ...frames.map(([nodes, times]) =>
      `| time between frames, ${nodes} nodes at 1×, median / p95 | ${ms(times)} |`),
    `| ${MINUTES} virtual minutes of 3 nodes | ${hour.seconds.toFixed(0)} s |`,
    `| memory of the page and its workers at each quarter of it | ` +
      `${hour.samples.map(mib).join(", ")} MiB |`,
    "",
    "| file | raw | brotli |",
    "|---|--:|--:|",
    ...sizes.map(([raw, brotli, name]) => `| ${name} | ${raw} | ${brotli} |`),
  ].join("\n");
}

const load = () => loadavg().map((value) => value.toFixed(2)).join(" ");
const before = load();
const results = {
  sizes: CORACLE_SIZES.trim().split("\n").map((line) => {
    const [raw, brotli, name] = line.split(" ");
    return [Number(raw), Number(brotli), name];
  }),
  leaderMs: await firstLeader(),
  browserPuts: await puts("browser"),
  memoryPuts: await puts("memory"),
  frames: [[5, await frames(5)], [9, await frames(9)]],
  hour: await hour(),
  loads: [before, load()],
};
const text = await readFile(CORACLE_REPORT, "utf8");
const [head, rest] = text.split("<!-- begin -->");
const [, tail] = rest.split("<!-- end -->");
await writeFile(
  CORACLE_REPORT,
  `${head}<!-- begin -->\n${report(results)}\n<!-- end -->${tail}`,
);
process.stdout.write(`${report(results)}\n`);
process.exit(0);
