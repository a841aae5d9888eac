// Runs the verifier of verifier/index.html in Node: one JSON request a line in, one JSON answer a line out.
//   node page.js INDEX.html
//   {"call": FUNCTION, "args": [...]}   a function of the page by its name, or one written out; {"hex": "…"} is bytes
//   {"receipt": HEX, "given": {"heads": [HEX], "roots": [HEX]}}   a receipt by itself
//   {"verify": FOLDER, "given": {"heads": [HEX], "roots": [HEX], "receipts": [PATH], "checkpoints": [PATH]}}   an export
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const vm = require("node:vm");

const page = fs.readFileSync(process.argv[2], "utf8");
const script = /<script id="verifier">(.*?)<\/script>/s.exec(page)[1];
vm.runInThisContext(script, { filename: "index.html" });

const bytesFrom = (file) => new Uint8Array(fs.readFileSync(file));
const named = (file) => ({ name: path.basename(file), bytes: bytesFrom(file) });

function fromJson(value) {
  if (Array.isArray(value)) return value.map(fromJson);
  return typeof value?.hex === "string" ? new Uint8Array(Buffer.from(value.hex, "hex")) : value;
}

function toJson(value) {
  if (Array.isArray(value)) return value.map(toJson);
  return value instanceof Uint8Array ? { hex: Buffer.from(value).toString("hex") } : value;
}

function filesOf(folder) {
  return Object.fromEntries(fs.readdirSync(folder).map((name) => [name, bytesFrom(path.join(folder, name))]));
}

async function answer({ call, args, receipt, verify, given = {} }) {
  if (receipt !== undefined) return globalThis.allocatorReceipt({ name: "r", bytes: fromJson({ hex: receipt }) }, given);
  if (call) return toJson(await vm.runInThisContext(call)(...args.map(fromJson)));
  const { heads = [], roots = [], receipts = [], checkpoints = [] } = given;
  const elsewhere = { heads, roots, receipts: receipts.map(named), checkpoints: checkpoints.map(named) };
  return globalThis.allocatorVerify(filesOf(verify), elsewhere);
}

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  try {
    console.log(JSON.stringify({ answer: (await answer(JSON.parse(line))) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
  }
});
