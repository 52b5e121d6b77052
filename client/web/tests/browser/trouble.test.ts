// The page when the server is full, gone, restarted or far away.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { generate, launch, open, phase } from "./page";
import { type Server, startServer } from "./server";

let browser: Browser;
let server: Server | undefined;

beforeAll(async () => {
  browser = await launch();
});
afterEach(async () => {
  await server?.stop();
});
afterAll(() => browser.close());

it("says how far it came when the server dies, reconnects when it is back, and runs the same again", async () => {
  server = await startServer();
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 64, count: 4 });
  await page.getByTestId("sample").first().locator("img").waitFor();
  await server.stop("SIGKILL");
  await page.getByTestId("disconnected").waitFor();
  expect(await page.getByTestId("disconnected").textContent()).toMatch(/It got to step \d+ of 64/);
  expect(await page.getByTestId("generate").isDisabled()).toBe(true);
  await phase(page, "failed");

  server = await startServer({}, server.port);
  await page.locator(".connection.connected").waitFor();
  await page.getByTestId("disconnected").waitFor({ state: "detached" });
  await page.getByLabel("Steps", { exact: true }).fill("2");
  await page.getByRole("button", { name: "Run it again, same seed" }).click();
  await page.locator(".viewer[data-phase=running]").waitFor();
  await page.getByTestId("cancel").click();
  await phase(page, "stopped");
  await page.context().close();
});

it("notices a server that has fallen silent", async () => {
  server = await startServer();
  const { page } = await open(browser, server.url);
  await generate(page, { steps: 64, count: 4 });
  await page.getByTestId("sample").first().locator("img").waitFor();
  process.kill(server.pid, "SIGSTOP");
  try {
    await page.getByTestId("disconnected").waitFor();
    await phase(page, "failed");
  } finally {
    process.kill(server.pid, "SIGCONT");
  }
  await page.locator(".connection.connected").waitFor();
  await page.context().close();
});

it("waits for a full server as long as it is told, and then gets its picture", async () => {
  server = await startServer({ RAYGEN_ENGINE__MAX_SLOTS: "1", RAYGEN_ENGINE__QUEUE_CAPACITY: "1" });
  const [first, second, third] = await Promise.all([0, 1, 2].map(() => open(browser, server?.url ?? "")));
  if (first === undefined || second === undefined || third === undefined) throw new Error("no pages");
  await generate(first.page, { steps: 64, count: 2 });
  await phase(first.page, "running");
  await generate(second.page, { steps: 64, count: 1 });
  await generate(third.page, { steps: 2 });
  await third.page.getByTestId("busy").waitFor();
  expect(await third.page.getByTestId("busy").textContent()).toMatch(/Next try in \d+ s/);
  await first.page.getByTestId("cancel").click();
  await second.page.getByTestId("cancel").click();
  await phase(third.page, "done");
  for (const { page } of [first, second, third]) await page.context().close();
});

it("gets the film over a slow line", async () => {
  server = await startServer();
  const { page } = await open(browser, server.url);
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 300,
    downloadThroughput: 12_000,
    uploadThroughput: 6_000,
  });
  await generate(page, { steps: 12, count: 2 });
  await phase(page, "done");
  expect(await page.getByTestId("sample").first().locator("img").getAttribute("alt")).toContain("Synthetic chest X-ray");
  await page.context().close();
});

it("asks nothing in a hidden tab, and little in an idle one", async () => {
  server = await startServer();
  const { page } = await open(browser, server.url);
  let asked = 0;
  page.on("request", () => (asked += 1));
  await page.waitForTimeout(6000);
  expect(asked).toBeLessThanOrEqual(2);
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  asked = 0;
  await page.waitForTimeout(6000);
  expect(asked).toBe(0);
  await page.context().close();
});
