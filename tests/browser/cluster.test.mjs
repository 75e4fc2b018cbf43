// What a cluster does when it is broken, asked through window.coracle. Time is paused and advanced
// by hand, so that no test depends on how fast the machine is.
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { ELECTION_MS, assert, browser, eventually, lab, leader, open, ready } from "./harness.mjs";

/// A paused cluster with a leader, on a disk of its own kind.
async function cluster(t, settings = {}) {
  const page = await open(await browser(t));
  const coracle = lab(page);
  await coracle.start({ storage: "memory", ...settings });
  await coracle.run(ELECTION_MS);
  const first = leader(await coracle.state());
  assert.ok(first, "no leader");
  return { page, coracle, first: first.id };
}

/// Runs a command that has to succeed, and returns what it printed.
async function ok(coracle, line, options) {
  const { code, stdout, stderr } = await coracle.exec(line, options);
  assert.equal(code, 0, `${line}: ${stdout}${stderr}`);
  return stdout;
}

/// All nodes but these.
const others = (state, ...ids) =>
  state.nodes.map((node) => node.id).filter((id) => !ids.includes(id));

/// Asserts that all nodes are up and have the same store.
async function agree(coracle) {
  const { nodes, violations } = await coracle.state();
  assert.deepEqual(violations, []);
  assert.ok(nodes.every((node) => node.up), JSON.stringify(nodes));
  assert.equal(new Set(nodes.map((node) => node.store_hash)).size, 1, JSON.stringify(nodes));
  assert.notEqual(nodes[0].store_hash, null);
  assert.equal(new Set(nodes.map((node) => node.revision)).size, 1, JSON.stringify(nodes));
}

test("a leader appears by itself", async (t) => {
  const page = await open(await browser(t));
  const state = await eventually(page, "a leader", leader);
  assert.equal(state.nodes.length, 3);
  assert.equal(state.paused, false);
});

test("when the leader is killed, another one takes writes", async (t) => {
  const { coracle, first } = await cluster(t);
  await ok(coracle, "put before 1");
  await coracle.act({ crash: first });
  await coracle.run(ELECTION_MS);
  const state = await coracle.state();
  assert.equal(state.nodes.find((node) => node.id === first).up, false);
  const second = leader(state);
  assert.ok(second && second.id !== first, JSON.stringify(state));
  assert.equal(await ok(coracle, "put after 2"), "OK\n");
  await coracle.act({ restart: first });
  await coracle.run(ELECTION_MS);
  await agree(coracle);
});

test("a minority serves the past and confirms nothing", async (t) => {
  const { coracle, first } = await cluster(t);
  await ok(coracle, "put a old");
  await coracle.run(1000);
  const majority = others(await coracle.state(), first);
  await coracle.act({ partition: [[first], majority] });
  await coracle.run(ELECTION_MS);
  await ok(coracle, "put a new", { node: majority[0] });

  const linearizable = await coracle.exec("get a --command-timeout=3s", { node: first });
  assert.equal(linearizable.code, 1);
  const timeout = /Error: (context deadline exceeded|etcdserver: request timed out)/;
  assert.match(linearizable.stderr, timeout);
  const stale = await ok(coracle, "get a --consistency=s", { node: first });
  assert.equal(stale, "a\nold\n");

  await coracle.act({ heal: true });
  await coracle.run(ELECTION_MS);
  assert.equal(await ok(coracle, "get a", { node: first }), "a\nnew\n");
  await agree(coracle);
});

test("a leader that stood still finds out that it leads no more", async (t) => {
  const { coracle, first } = await cluster(t);
  await coracle.act({ pause: first });
  await coracle.run(ELECTION_MS);
  assert.notEqual(leader(await coracle.state())?.id, first);
  await ok(coracle, "put a 1", { node: others(await coracle.state(), first)[0] });
  await coracle.act({ resume: first });
  await coracle.run(ELECTION_MS);
  const state = await coracle.state();
  assert.notEqual(leader(state).id, first);
  assert.equal(state.nodes.find((node) => node.id === first).role, "follower");
  await agree(coracle);
});

test("a node that lost its disk comes back as a new member", async (t) => {
  const { coracle, first } = await cluster(t);
  await ok(coracle, "put a 1");
  const [lost] = others(await coracle.state(), first);
  const before = await ok(coracle, "member list");
  await coracle.act({ lose_disk: lost });
  await coracle.run(3 * ELECTION_MS);
  await agree(coracle);
  assert.equal(await ok(coracle, "get a --consistency=s", { node: lost }), "a\n1\n");
  assert.notEqual(await ok(coracle, "member list"), before);
});

test("a lease that ends takes its keys along, everywhere", async (t) => {
  const { coracle } = await cluster(t);
  const [, lease] = /lease ([0-9a-f]+) granted/.exec(await ok(coracle, "lease grant 5"));
  await ok(coracle, `put --lease=${lease} a 1`);
  await coracle.run(1000);
  for (const node of [1, 2, 3]) {
    assert.equal(await ok(coracle, "get a --consistency=s", { node }), "a\n1\n");
  }
  await coracle.run(10_000);
  for (const node of [1, 2, 3]) {
    assert.equal(await ok(coracle, "get a --consistency=s", { node }), "");
  }
  await agree(coracle);
});

test("a watch begins in the past and goes on", async (t) => {
  const { coracle } = await cluster(t);
  await ok(coracle, "put a 1");
  await ok(coracle, "put a 2");
  const { stdout } = await coracle.exec("watch a --rev=2", { lines: 6 });
  assert.equal(stdout, "PUT\na\n1\nPUT\na\n2\n");
});

test("a compacted revision is refused with etcd's words", async (t) => {
  const { coracle } = await cluster(t);
  await ok(coracle, "put a 1");
  await ok(coracle, "put a 2");
  assert.equal(await ok(coracle, "compaction 3"), "compacted revision 3\n");
  const past = await coracle.exec("get a --rev=2");
  assert.equal(past.code, 1);
  assert.equal(past.stderr, "Error: etcdserver: mvcc: required revision has been compacted\n");
});

test("a transaction whose condition fails does the other thing", async (t) => {
  const { coracle } = await cluster(t);
  await ok(coracle, "put k old");
  const input = 'value("k") = "new"\n\nput k never\n\nget k\n\n';
  assert.equal(await ok(coracle, "txn", { input }), "FAILURE\n\nk\nold\n");
});

test("a learner joins, is promoted, and a voter leaves", async (t) => {
  const { coracle, first } = await cluster(t);
  await ok(coracle, "put a 1");
  await coracle.act({ add_learner: true });
  await coracle.run(ELECTION_MS);
  let state = await coracle.state();
  assert.equal(state.nodes.length, 4);
  assert.equal(state.nodes[3].role, "learner");
  await coracle.act({ promote: 4 });
  await coracle.run(ELECTION_MS);
  state = await coracle.state();
  assert.equal(state.nodes[3].role, "follower");
  const [leaving] = others(state, first, 4);
  await coracle.act({ remove_node: leaving });
  await coracle.run(ELECTION_MS);
  state = await coracle.state();
  assert.ok(!state.nodes.some((node) => node.id === leaving && node.up), JSON.stringify(state));
  assert.equal((await ok(coracle, "member list")).trim().split("\n").length, 3);
  await ok(coracle, "put a 2");
});

test("every action of act does what is written of it", async (t) => {
  const { page, coracle, first } = await cluster(t);
  const [one, other] = others(await coracle.state(), first);
  const state = async (number) => {
    const { nodes } = await coracle.state();
    return nodes.find((node) => node.id === number);
  };
  const cuts = async () => {
    const { links } = await coracle.state();
    return links.filter((way) => way.cut).map((way) => `${way.from}${way.to}`).sort().join(" ");
  };
  const done = async (action) => {
    await coracle.act(action);
    await coracle.run(ELECTION_MS);
  };
  const ways = (...pairs) =>
    pairs.flatMap(([a, b]) => [`${a}${b}`, `${b}${a}`]).sort().join(" ");
  await ok(coracle, "put a 1");

  for (const [action, condition] of [
    [{ crash: one }, "down"], [{ restart: one }, "up"], [{ pause: one }, "paused"],
    [{ resume: one }, "up"], [{ tear_log: one }, "down"], [{ restart: one }, "up"],
    [{ corrupt_log: one }, "down"], [{ restart: one }, "stopped"], [{ lose_disk: one }, "up"],
  ]) {
    await done(action);
    assert.equal((await state(one)).condition, condition, JSON.stringify(action));
  }
  await agree(coracle);

  await coracle.act({ fill_disk: [one, true], slow_disk: [one, 20], skew_clock: [one, 1.5] });
  const { disk_full: full, disk_latency_ms: latency, clock_rate: rate } = await state(one);
  assert.deepEqual([full, latency, rate], [true, 20, 1.5]);
  await done({ heal: true });
  await agree(coracle);

  const { term } = await state(one);
  await done({ elect: one });
  const elected = leader(await coracle.state());
  // It stood; whether it won is the voters' business.
  assert.ok(Number(elected.term) > Number(term), JSON.stringify(elected));
  await done({ transfer: one });
  assert.equal(leader(await coracle.state()).id, one);
  await done({ transfer: other });
  assert.equal(leader(await coracle.state()).id, other);

  await coracle.act({ cut: [first, one], cut_one_way: [first, other] });
  assert.equal(await cuts(), `${ways([first, one])} ${first}${other}`.split(" ").sort().join(" "));
  await coracle.act({ mend: [first, one] });
  assert.equal(await cuts(), `${first}${other}`);
  await coracle.act({ partition: [[first, one], [other]] });
  assert.equal(await cuts(), ways([first, other], [one, other]));
  await coracle.act({ heal: true, isolate: one });
  assert.equal(await cuts(), ways([one, first], [one, other]));
  await coracle.act({ heal: true, link: [first, one, { delay_ms: 100, loss: 0.1 }] });
  const { links } = await coracle.state();
  assert.deepEqual(links.map((way) => [way.network.delay_ms, way.network.loss]),
    [[100, 0.1], [100, 0.1]]);
  await done({ heal: true, network: { delay_ms: 3, duplicate: 0.2 } });
  await agree(coracle);

  await done({ add_node: true });
  assert.equal((await state(4)).role, "follower");
  await done({ add_learner: true });
  assert.equal((await state(5)).role, "learner");
  await done({ promote: 5 });
  assert.equal((await state(5)).role, "follower");
  await done({ remove_node: 4 });
  assert.ok(!(await state(4))?.up);

  await coracle.act({ network: { delay_ms: 80 } });
  const under = page.getByTestId("message");
  for (let step = 0; step < 40 && (await under.count()) < 2; step += 1) await coracle.run(10);
  const numbers = await under.evaluateAll((all) => all.map((one) => one.dataset.id));
  await coracle.act({ delay_message: [numbers[0], 5000], drop_message: numbers[1] });
  await coracle.run(1000);
  assert.ok(await page.locator(`[data-testid=message][data-id="${numbers[0]}"]`).count());
  await assert.rejects(coracle.act({ drop_message: numbers[1] }), /is not under way/);
  assert.deepEqual((await coracle.state()).violations, []);
});

test("two runs of one seed are one", async (t) => {
  const { coracle, first } = await cluster(t, { seed: "7" });
  const experiment = async () => {
    await coracle.start({ storage: "memory", seed: "7" });
    await coracle.run(5000);
    await coracle.exec("put a 1");
    await coracle.act({ crash: first, network: { loss: 0.1 } });
    await coracle.run(5000);
    return coracle.trace_hash();
  };
  const hash = await experiment();
  assert.equal(await experiment(), hash);
  await coracle.run(100);
  assert.notEqual(await coracle.trace_hash(), hash);
});

test("a saved experiment is the same in another browser", async (t) => {
  const { coracle, first } = await cluster(t, { seed: "9" });
  await ok(coracle, "put a 1");
  await coracle.act({ crash: first });
  await coracle.run(5000);
  await ok(coracle, "put a 2");
  const [saved, hash] = [await coracle.save(), await coracle.trace_hash()];
  const other = lab(await open(await browser(t)));
  await other.load(saved);
  assert.equal(await other.trace_hash(), hash);
  assert.equal((await other.state()).paused, true);
  assert.equal(await ok(other, "get a"), "a\n2\n");
});

test("an experiment that ran natively takes the same course in wasm", async (t) => {
  // Left by `cargo test -p coracle-tests --test laboratory`, which xtask runs before.
  const saved = await readFile(process.env.CORACLE_EXPERIMENT, "utf8");
  const coracle = lab(await open(await browser(t)));
  // It is refused if the trace takes another course by a single byte.
  await coracle.load(saved);
  assert.equal(await coracle.trace_hash(), JSON.parse(saved).trace_hash);
});

test("a nonsensical argument is told what is right", async (t) => {
  const { coracle } = await cluster(t);
  const unknown = coracle.act({ explode: 2 });
  await assert.rejects(unknown, /no action explode: act takes .* crash, restart/);
  const wrong = coracle.act({ cut: 3 });
  await assert.rejects(wrong, /cut does not take 3; for example: {cut: \[1, 3\]}/);
  await assert.rejects(coracle.act(7), /act takes an object/);
  await assert.rejects(coracle.act({ crash: 9 }));
  await assert.rejects(coracle.run(-1), /run takes the milliseconds/);
  await assert.rejects(coracle.speed(7), /0.001 to 4/);
  await assert.rejects(coracle.load("nonsense"));
});

test("what was written is there after the page is loaded again", async (t) => {
  const page = await open(await browser(t));
  const coracle = lab(page);
  await coracle.run(ELECTION_MS);
  await ok(coracle, "put a 1");
  await coracle.act({ crash: 2 });
  await page.reload();
  await ready(page);
  await coracle.run(ELECTION_MS);
  assert.equal(await ok(coracle, "get a"), "a\n1\n");
  await agree(coracle);
});

test("a second tab runs in memory, and can take the disks over", async (t) => {
  const context = await browser(t);
  const [first, second] = [await open(context), await open(context)];
  await lab(first).run(ELECTION_MS);
  await ok(lab(first), "put where first");
  await lab(second).run(ELECTION_MS);
  assert.equal(await ok(lab(second), "get where"), "");
  await ok(lab(second), "put where second");

  await lab(second).take_over();
  await lab(second).run(ELECTION_MS);
  assert.equal(await ok(lab(second), "get where"), "where\nfirst\n");
  await assert.rejects(lab(first).state(), /Another tab took this browser's disks over/);
});
