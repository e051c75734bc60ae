// What page.sh checks of each page in a browser. Arguments: the browser, then pages and their JSON
// by name without extension.
"use strict";
const fs = require("node:fs");
const { chromium } = require("playwright-core");

const [browserPath, ...names] = process.argv.slice(2);
let failures = 0;
function check(holds, text) {
  if (holds) return;
  failures += 1;
  console.log(`  NOT: ${text}`);
}

// Every pair of labels of which the boxes overlap by more than a pixel.
function overlaps() {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const boxes = [...svg.querySelectorAll("text")].map((text) => {
      const box = text.getBoundingClientRect();
      return { text: text.textContent, left: box.left, right: box.right, top: box.top,
        bottom: box.bottom };
    }).filter((box) => box.right > box.left).sort((a, b) => a.top - b.top);
    boxes.forEach((one, index) => {
      for (const other of boxes.slice(index + 1)) {
        if (other.top >= one.bottom - 1) break;
        if (other.left < one.right - 1 && one.left < other.right - 1)
          found.push(`${one.text} / ${other.text}`);
      }
    });
  }
  return found;
}
const lit = () => [...document.querySelectorAll("#picture .event.past")]
  .map((event) => Number(event.dataset.row)).sort((a, b) => a - b);
const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

async function checkPage(context, name) {
  const story = JSON.parse(fs.readFileSync(`${name}.json`, "utf8"));
  const page = await context.newPage();
  const errors = [], requests = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`file://${name}.html`);
  await page.waitForSelector("#picture .event");

  if (story.keys.length > 1) await page.selectOption("#filters select", "-1");
  const drawn = await page.locator("#picture .event").count();
  check(drawn === story.rows.length, `all ${story.rows.length} events are drawn, not ${drawn}`);
  const labels = await page.locator("#picture text").count();
  check(labels > story.rows.length / 4, `enough labels are drawn: ${labels}`);
  for (const width of [1500, 1000, 700]) {
    await page.setViewportSize({ width, height: 900 });
    await page.waitForTimeout(400);
    const found = await page.evaluate(overlaps);
    check(found.length === 0, `no labels overlap at ${width}: ${found.slice(0, 5).join("; ")}`);
  }

  await page.setViewportSize({ width: 1500, height: 900 });
  await page.waitForTimeout(400);
  // Of a run that held, its last event.
  const last = [...story.rows.keys()].pop();
  const { row, past } = story.violation ?? { row: last, past: null };
  await page.locator(`#picture .event[data-row="${row}"] .hit`).click();
  if (past === null) return page.close();
  check(equal(await page.evaluate(lit), past), "a click on the violation leaves its past");
  const faded = await page.evaluate((id) => {
    const event = document.querySelector(`#picture .event[data-row="${id}"]`);
    return event ? Number(getComputedStyle(event).opacity) : -1;
  }, story.rows.map((each) => each.id).find((id) => !past.includes(id)));
  check(faded < 0.3, `the rest fades: ${faded}`);

  await page.keyboard.press("Escape");
  check((await page.evaluate(lit)).length === 0, "Escape shows all again");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const second = await page.locator("#picture .event.chosen").getAttribute("data-row");
  check(second === "1", `arrows walk over the events: ${second}`);
  await page.keyboard.press("v");
  check(equal(await page.evaluate(lit), past), "v chooses the violation");
  await page.getByRole("button", { name: "messages", exact: true }).click();
  const messages = await page.locator("#picture .event.send").count();
  check(messages === 0, "messages can be hidden");
  check((await page.evaluate(overlaps)).length === 0, "no labels overlap without messages");
  await page.locator("#table summary").click();
  await page.waitForSelector("#table tbody tr");
  const lines = await page.locator("#table tbody tr").count();
  check(lines === story.rows.length, `the table has every event: ${lines}`);

  check(errors.length === 0, `the console is quiet: ${errors.join("; ")}`);
  check(requests.every((url) => url.startsWith("file:")), `nothing is loaded: ${requests}`);
  console.log(`  ${name.split("/").pop()}: ${drawn} events, ${labels} labels, past of ${past.length}`);
  await page.close();
}

async function picture(browser, name, file) {
  const page = await browser.newPage({ viewport: { width: 1240, height: 600 } });
  await page.goto(`file://${name}.html`);
  await page.addStyleTag({ content: "header, nav, #table { display: none }"
    + " main { grid-template-columns: 1fr 300px } #diagram, aside { max-height: none }" });
  await page.setViewportSize({ width: 1240, height: 640 });
  await page.waitForTimeout(400);
  await page.locator("main").screenshot({ path: file });
  await page.close();
}

(async () => {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: browserPath, args });
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ colorScheme, offline: true });
    for (const name of names) await checkPage(context, name);
    await context.close();
  }
  if (process.env.PICTURE) await picture(browser, names[0], process.env.PICTURE);
  await browser.close();
  process.exit(failures === 0 ? 0 : 1);
})();
