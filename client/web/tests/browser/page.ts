// The page in Chromium, and the moves that tests make on it.
import { type Browser, chromium, type Page } from "playwright-core";

export async function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    // Containers are started as root, where Chromium's sandbox does not start.
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
}

/** Opens the page, connected and with its models there. Any error on it fails the test that looks at `problems`. */
export async function open(browser: Browser, url: string): Promise<{ page: Page; problems: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().includes("Failed to load resource")) problems.push(message.text());
  });
  await page.goto(url);
  await page.locator(".term").first().waitFor();
  return { page, problems };
}

export const phase = (page: Page, name: string): Promise<void> =>
  page.locator(`.viewer[data-phase=${name}]`).waitFor();

/** Fills the form in and generates. */
export async function generate(
  page: Page,
  { impression = "Pneumonia.", steps = 6, count = 1, seed = 7 }: { impression?: string; steps?: number; count?: number; seed?: number } = {},
): Promise<void> {
  await page.getByLabel("Impression", { exact: true }).fill(impression);
  await page.getByLabel("Steps", { exact: true }).fill(String(steps));
  await page.getByLabel("Pictures", { exact: true }).fill(String(count));
  await page.getByLabel("Seed", { exact: true }).fill(String(seed));
  await page.getByTestId("generate").click();
}
