// A browser that does what it is told: each line of standard input is a JSON text with a piece of JavaScript, and is
// answered by a line, {"result": ...} or {"error": ...}. Pieces can use page (playwright's), base, assert and the functions below.
// Whatever the page must never do, in whatever piece, is an error of the piece in which it happened.
"use strict";
const assert = require("node:assert/strict");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const [, , executablePath, base, shots] = process.argv;
const within = 30_000;

async function main() {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(within);
  const problems = [];
  page.on("pageerror", (e) => problems.push(`the page failed: ${e.stack ?? e}`));
  page.on("dialog", (d) => problems.push(`the page asks ${d.message()}`) && d.dismiss());
  page.on("console", (m) => m.type() === "error" && !/^Failed to load resource/.test(m.text()) && problems.push(`the browser says ${m.text()}`));
  page.on("request", (r) => new URL(r.url()).origin !== new URL(base).origin && problems.push(`the page asks another: ${r.url()}`));
  await page.exposeFunction("violated", (what) => problems.push(`against the policy: ${what}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) => window.violated(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}`));
  });

  const tools = {
    page, base, assert,
    /** Goes to a view without loading the page anew. */
    view: (hash) => page.evaluate((h) => { location.hash = h; }, "#/" + hash),
    /** Waits for something to be seen: a selector, a text in quotes, or what playwright has found. */
    see: (what) => (typeof what === "string" ? page.locator(what) : what).first().waitFor({ state: "visible" }),
    gone: (what) => (typeof what === "string" ? page.locator(what) : what).first().waitFor({ state: "hidden" }),
    /** The row of a table that has a text. */
    row: (text) => page.locator("tbody tr", { hasText: text }).first(),
    shot: async (name) => { await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true }); },
  };
  const Piece = Object.getPrototypeOf(async () => {}).constructor;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer = {};
    try {
      answer.result = await new Piece(...Object.keys(tools), JSON.parse(line))(...Object.values(tools));
      assert.deepEqual(problems.splice(0), []);
    } catch (e) {
      await tools.shot("failure").catch(() => {});
      answer = { error: `${e.stack ?? e}\n${await page.locator("body").innerText().catch(() => "")}` };
    }
    console.log(JSON.stringify(answer));
  }
  await browser.close();
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
