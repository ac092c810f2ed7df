// Does a list of steps (JSON, first argument) in one headless Chromium and prints {"results": […], "errors": […]}.
// The steps are described in tests/support/browser.rs. NODE_PATH names the packages, CHROMIUM the browser.
'use strict';

const { chromium } = require('playwright-core');

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];
const STEP_LIMIT_MS = 15000;

async function axe(page) {
  await page.evaluate(require('axe-core').source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => n.target.join(' ')) }));
}

const ACTIONS = {
  goto: async (page, url) => (await page.goto(url, { waitUntil: 'load' })).status(),
  click: (page, selector) => page.click(selector),
  fill: (page, [selector, text]) => page.fill(selector, text),
  press: (page, [selector, key]) => page.press(selector, key),
  wait_for: async (page, selector) => void (await page.waitForSelector(selector)),
  text: (page, selector) => page.innerText(selector),
  count: (page, selector) => page.locator(selector).count(),
  eval: (page, code) => page.evaluate(code),
  size: (page, [width, height]) => page.setViewportSize({ width, height }),
  headers: (page, headers) => page.setExtraHTTPHeaders(headers),
  screenshot: async (page, path) => void (await page.screenshot({ path, fullPage: true })),
  axe,
};

async function main() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ARGS });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(STEP_LIMIT_MS);
    const errors = [];
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('requestfailed', (request) => errors.push(`${request.url()}: ${request.failure().errorText}`));
    const results = [];
    for (const step of JSON.parse(process.argv[2])) {
      const [[name, argument]] = Object.entries(step);
      if (!ACTIONS[name]) throw new Error(`no action is called ${name}`);
      try {
        results.push((await ACTIONS[name](page, argument)) ?? null);
      } catch (error) {
        throw new Error(`step ${results.length} ${JSON.stringify(step)}: ${error.message}`);
      }
    }
    process.stdout.write(JSON.stringify({ results, errors }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
