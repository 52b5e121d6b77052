// Generating on the page: steps in order, the film, samples, cancel, refusals, downloads.
import { readFile } from "node:fs/promises";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { generate, launch, open, phase } from "./page";
import { type Server, startServer } from "./server";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launch()]);
});
afterAll(async () => {
  await browser.close();
  await server.stop();
});

it("shows each step in order, then the film, and every step again on the scrubber", async () => {
  const { page, problems } = await open(browser, server.url);
  await page.evaluate(() => {
    const seen: string[] = [];
    Object.assign(window, { seen });
    new MutationObserver(() => {
      const where = document.querySelector("[data-testid=where]")?.textContent ?? "";
      const masked = document.querySelector("canvas")?.dataset["masked"] ?? "";
      if (seen.at(-1) !== `${where}|${masked}`) seen.push(`${where}|${masked}`);
    }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
  });
  await generate(page, { steps: 8 });
  await phase(page, "done");
  const seen = await page.evaluate(() => (window as unknown as { seen: string[] }).seen);
  const steps = seen.flatMap((line) => {
    const match = /^Step (\d+) of 8\|(\d+)$/.exec(line);
    return match === null ? [] : [[Number(match[1]), Number(match[2])] as const];
  });
  expect(steps.length).toBeGreaterThanOrEqual(5);
  expect(steps.map(([step]) => step)).toEqual([...steps.map(([step]) => step)].sort((a, b) => a - b));
  const masked = steps.map(([, count]) => count);
  expect(masked[0]).toBeGreaterThan(masked.at(-1) ?? 0);
  expect(await page.locator(".film-screen").getByTestId("film").evaluate((film: HTMLImageElement) => film.naturalWidth)).toBe(128);

  await page.getByTestId("scrubber").fill("0");
  await expect.poll(() => page.getByTestId("where").textContent()).toBe("Step 1 of 8");
  expect(await page.locator(".film-screen img").getAttribute("alt")).toContain("Preview after step 1");
  await page.getByTestId("scrubber").fill("8");
  await expect.poll(() => page.getByTestId("where").textContent()).toBe("Film");
  expect(problems).toEqual([]);
  await page.context().close();
});

it("cancels, says how far it came, and frees the slot", async () => {
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 64, count: 4 });
  await page.getByTestId("sample").first().locator("img").waitFor();
  await page.getByTestId("cancel").click();
  await phase(page, "stopped");
  expect(await page.getByTestId("run-banner").textContent()).toMatch(/Stopped\. It got to step \d+ of 64/);
  await expect
    .poll(async () => ((await (await fetch(`${server.url}/status.json`)).json()) as { slots_in_use: number }).slots_in_use)
    .toBe(0);
  await page.context().close();
});

it("shows what the server refuses at its field, and goes on once it is mended", async () => {
  const { page } = await open(browser, server.url);
  await page.getByLabel("Temperature", { exact: true }).fill("-3");
  await page.getByLabel("Pictures", { exact: true }).fill("99");
  await page.getByTestId("generate").click();
  const error = page.locator("[id='impression-error']");
  await expect.poll(() => error.textContent()).toContain("must not be blank");
  expect(await page.locator("[id='sampling.temperature-error']").textContent()).toContain("-3");
  expect(await page.locator("[id='sample_count-error']").textContent()).not.toBe("");
  expect(await page.getByLabel("Impression", { exact: true }).getAttribute("aria-invalid")).toBe("true");
  await page.getByLabel("Temperature", { exact: true }).fill("1");
  await generate(page, { steps: 2 });
  await phase(page, "done");
  expect(await error.textContent()).toBe("");
  await page.context().close();
});

it("saves PNG and DICOM that say that they are synthetic", async () => {
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 2, impression: "Pneumonia with oddities" });
  await phase(page, "done");
  expect(await page.locator(".note").first().textContent()).toContain("oddities");
  for (const [button, mark] of [["png", "Synthetic"], ["dicom", "DICM"]] as const) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId(button).click()]);
    expect(download.suggestedFilename()).toMatch(/^synthetic-not-for-diagnosis_pneumonia-with-oddities_seed-7_0\./);
    const bytes = (await readFile(await download.path())).toString("latin1");
    expect(bytes).toContain(mark);
  }
  await page.context().close();
});

it("repaints what is painted and nothing else", async () => {
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 4 });
  await phase(page, "done");
  await page.getByTestId("repaint").click();
  const box = await page.getByTestId("brush").boundingBox();
  if (box === null) throw new Error("no brush");
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.5);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.5, { steps: 4 });
  await page.mouse.up();
  const painted = Number(/Repaint (\d+) of 256/.exec((await page.getByTestId("repaint-go").textContent()) ?? "")?.[1]);
  expect(painted).toBeGreaterThan(10);
  await page.getByTestId("repaint-go").click();
  await page.getByText("Repainted", { exact: true }).waitFor();
  await phase(page, "done");
  await page.getByTestId("scrubber").fill("0");
  const label = (await page.locator(".grid-screen canvas").getAttribute("aria-label")) ?? "";
  const [, decided, fresh, masked] = /(\d+) decided, (\d+) just decided, (\d+) masked/.exec(label)?.map(Number) ?? [];
  // The rest is kept from the first step on.
  expect(decided).toBe(256 - painted);
  expect((fresh ?? 0) + (masked ?? 0)).toBe(painted);
  expect(await page.getByTestId("history").count()).toBe(2);
  await page.context().close();
});

it("shows samples side by side, varies one, and repeats a seed", async () => {
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 3, count: 3 });
  await phase(page, "done");
  expect(await page.getByTestId("sample").count()).toBe(3);
  await page.getByTestId("sample").nth(2).click();
  await page.getByRole("button", { name: "Vary" }).click();
  await expect.poll(() => page.getByTestId("history").first().getAttribute("aria-label")).toBe("Pneumonia., varied, done");
  expect(await page.getByTestId("history").count()).toBe(2);
  await page.getByTestId("history").last().click();
  await page.getByLabel("Seed", { exact: true }).fill("");
  await page.getByRole("button", { name: "Same seed" }).click();
  expect(await page.getByLabel("Seed", { exact: true }).inputValue()).toBe("7");
  await page.context().close();
});

it("works by keyboard alone, the brush too", async () => {
  const { page } = await open(browser, server.url);
  const focusOn = async (selector: string): Promise<void> => {
    for (let presses = 0; presses < 80; presses += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((at) => document.activeElement?.matches(at) === true, selector)) return;
    }
    throw new Error(`Tab does not reach ${selector}`);
  };
  await focusOn(".term");
  await page.keyboard.press("Space");
  await focusOn("[id='sampling.step_count']");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("3");
  await page.keyboard.press("Enter");
  await phase(page, "done");
  await focusOn("[data-testid=scrubber]");
  await page.keyboard.press("Home");
  await expect.poll(() => page.getByTestId("where").textContent()).toBe("Step 1 of 3");
  await page.keyboard.press("End");
  await focusOn("[data-testid=repaint]");
  await page.keyboard.press("Enter");
  await page.locator("[data-testid=brush]:focus").waitFor();
  await page.keyboard.press("Space");
  await page.keyboard.press("Shift+ArrowRight");
  await focusOn("[data-testid=repaint-go]");
  await page.keyboard.press("Enter");
  await page.getByText("Repainted", { exact: true }).waitFor();
  await phase(page, "done");
  expect(await page.locator("[role=status]").textContent()).toContain("finished");
  await page.context().close();
});
