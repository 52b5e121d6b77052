// The page's figures, printed: size, time from a step's end to its preview, what idle pages cost. Not part of CI.
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { generate, launch, open, phase } from "../browser/page";
import { type Server, startServer } from "../browser/server";

const PAGES = 50;
const REST = 60_000;

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launch()]);
});
afterAll(async () => {
  await browser.close();
  await server.stop();
});

it("size of the page", async () => {
  let all = 0;
  for (const path of ["/", "/app.js", "/app.css", "/favicon.svg"]) {
    const bytes = await compressedSize(server.url + path);
    all += bytes;
    report(`${path}: ${bytes} bytes compressed`);
  }
  report(`all: ${all} bytes compressed`);
  expect(all).toBeLessThan(300_000);
});

it("from the first step's end to its preview on the page", async () => {
  const { page } = await open(browser, server.url);
  const waits: number[] = [];
  for (let round = 0; round < 12; round += 1) {
    await page.evaluate(watchFirstPreview);
    const steps = await stepCount();
    const ended = stepEnd(steps);
    await generate(page, { steps: 6, seed: round });
    const shown = await page.evaluate(() => (window as unknown as { firstPreview: Promise<number> }).firstPreview);
    if (round > 1) waits.push(shown - (await ended));
    await phase(page, "done");
  }
  waits.sort((a, b) => a - b);
  report(`first step's end to preview on screen, ${waits.length} runs: median ${middle(waits)} ms, worst ${waits.at(-1) ?? 0} ms`);
  expect(waits.at(-1)).toBeLessThan(150);
  await page.context().close();
});

it("idle pages", async () => {
  const { page } = await open(browser, server.url);
  await measure(page, 3);
  const alone = await measure(page, 10);
  const restAlone = await cpuOver(REST);
  const others: Page[] = [];
  for (let count = 0; count < PAGES; count += 1) others.push((await open(browser, server.url)).page);
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const restCrowded = await cpuOver(REST);
  const stepsBefore = await stepCount();
  report(`server's CPU over ${REST / 1000} s at rest: ${restAlone} ms with one page, ${restCrowded} ms with ${PAGES + 1}`);
  const crowded = await measure(page, 10);
  report(`time in steps of the same request: ${middle(alone)} s alone, ${middle(crowded)} s beside ${PAGES} idle pages (medians of 10)`);
  expect(await stepCount()).toBeGreaterThan(stepsBefore);
  expect(restCrowded / REST).toBeLessThan(0.01);
}, 400_000);

function report(line: string): void {
  process.stdout.write(`FIGURE ${line}\n`);
}

const middle = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

function compressedSize(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { headers: { "accept-encoding": "gzip" } }, (response) => {
      let bytes = 0;
      response.on("data", (chunk: Buffer) => (bytes += chunk.length));
      response.on("end", () => resolve(bytes));
    })
      .on("error", reject)
      .end();
  });
}

async function stepCount(): Promise<number> {
  return ((await (await fetch(`${server.url}/status.json`)).json()) as { steps: number }).steps;
}

/** When the engine has done one more step than `before`, as near as asking without pause tells. */
async function stepEnd(before: number): Promise<number> {
  for (;;) {
    if ((await stepCount()) > before) return Date.now();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Resolves with the time at which the first preview of the next run has been drawn. */
function watchFirstPreview(): void {
  const old = document.querySelector<HTMLImageElement>(".film-screen img")?.src;
  const firstPreview = new Promise<number>((resolve) => {
    const observer = new MutationObserver(() => {
      const image = document.querySelector<HTMLImageElement>(".film-screen img[data-testid=preview]");
      if (image === null || image.src === old) return;
      observer.disconnect();
      // Rejected where the next step's picture took its place: then the later time counts.
      const drawn = (): void => void requestAnimationFrame(() => setTimeout(() => resolve(Date.now()), 0));
      image.decode().then(drawn, drawn);
    });
    observer.observe(document.body, { subtree: true, childList: true, attributes: true });
  });
  Object.assign(window, { firstPreview });
}

/** CPU time of the server's process over a while, in milliseconds. */
async function cpuOver(milliseconds: number): Promise<number> {
  const before = await cpu();
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return (await cpu()) - before;
}

async function cpu(): Promise<number> {
  const stat = await readFile(`/proc/${server.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // utime and stime, in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Time in steps, as the server tells it, of the same request so many times. */
async function measure(page: Page, rounds: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await generate(page, { steps: 12 });
    await phase(page, "done");
    const text = (await page.locator(".facts").textContent()) ?? "";
    times.push(Number(/([\d.]+) s in steps/.exec(text)?.[1]));
  }
  return times;
}
