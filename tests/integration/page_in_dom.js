// The web page as a browser would have it: loaded from the daemon into jsdom, used, and what it shows told as JSON.
// Arguments: the folder that holds node_modules, the daemon's address, a key or "".
"use strict";
const [, , folder, address, key] = process.argv;
const { JSDOM } = require(`${folder}/node_modules/jsdom`);

const WAIT_MS = 60000;

async function until(condition, what) {
  for (const end = Date.now() + WAIT_MS; Date.now() < end;) {
    const value = condition();
    if (value) return value;
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  throw new Error(`waited for ${typeof what === "string" ? what : what()}`);
}

async function open() {
  const dom = await JSDOM.fromURL(address + "/", {
    runScripts: "dangerously", pretendToBeVisual: true,
    beforeParse(window) {             // what jsdom has not, from Node.js
      Object.assign(window, { AbortController, TextDecoderStream });
      window.fetch = (path, options) => fetch(new URL(path, address), options);
    } });
  return dom.window.document;
}

async function write(page, fields) {
  for (const [name, value] of Object.entries(fields)) page.getElementById(name).value = value;
  page.getElementById("write").click();
  await until(() => page.getElementById("write").disabled, "the button to be taken");
}

const shown = (page, id) => page.getElementById(id).textContent;

async function main() {
  const page = await open();
  const told = {};
  if (key) {
    told.asked = await until(() => !page.getElementById("key-form").hidden && shown(page, "problem"), "the key's form");
    page.getElementById("key").value = key;
    page.querySelector("#key-form button").click();
  }
  await until(() => page.querySelectorAll("#model option").length > 0, "models");
  told.models = [...page.querySelectorAll("#models tr")].map(row => [...row.cells].map(cell => cell.textContent));

  await write(page, { model: "bard", prompt: "I 'm", max_tokens: 40, seed: 3, temperature: 0.5 });
  await until(() => !page.getElementById("write").disabled, "the text's end");
  Object.assign(told, { text: shown(page, "text"), told: shown(page, "told"), command: shown(page, "command"),
                        problem: page.getElementById("problem").hidden });

  await write(page, { max_tokens: 1000000 });
  await until(() => shown(page, "text").length > 100, () => `an endless text, but: ${shown(page, "refused")}`);
  page.getElementById("stop").click();
  await until(() => !page.getElementById("write").disabled, "the stop");

  await write(page, { max_tokens: 5, prompt: "\u{1F40B}" });
  await until(() => !page.getElementById("write").disabled, "the refusal");
  told.refused = shown(page, "refused");

  const headers = { "Content-Type": "application/json", ...key && { Authorization: `Bearer ${key}` } };
  const begun = await fetch(`${address}/v1/models/bard/train`, { method: "POST", headers, body: JSON.stringify(
    { corpus: { text: "I 'm ".repeat(500) }, max_seconds: 30, publish: "never",
      batch: 4, sequence_length: 8, evaluate_every_steps: 20 }) });
  told.training_status = [begun.status, begun.ok ? "" : await begun.text()];
  if (begun.ok && !key) {
    await until(() => page.querySelector("#trainings polyline[points]"), "a plot");
    told.training = shown(page, "trainings");
  }
  await fetch(`${address}/v1/models/bard/train`, { method: "DELETE", headers });
  process.stdout.write(JSON.stringify(told), () => process.exit(0));
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
