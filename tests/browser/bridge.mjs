// Holds a page for a program that speaks JSON: a request per line, an answer per line. The
// program is the player of etcdctl's transcripts (`tests/src/transcript/page.rs`).
import { createInterface } from "node:readline";
import { ELECTION_MS, browser, lab, leader, open } from "./harness.mjs";

const closing = [];
const context = await browser({ after: (close) => closing.push(close) });
const coracle = lab(await open(context));

async function settle() {
  await coracle.run(ELECTION_MS);
  if (!leader(await coracle.state())) throw new Error("the cluster has no leader");
}

async function answer(request) {
  if (request.start) {
    await coracle.start({ storage: "memory", nodes: request.start });
    await settle();
  } else if (request.restart) {
    await coracle.act({ crash: request.restart });
    await coracle.act({ restart: request.restart });
    await settle();
  } else if (request.exec !== undefined) {
    return coracle.exec(request.exec, request.options);
  }
  return {};
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request === null) break;
  const result = await answer(request).catch((error) => ({ error: error.message }));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
for (const close of closing) await close();
process.exit(0);
