// Whether the server is there and how busy it is: asked seldom, in a hidden tab never.
import { signal } from "@preact/signals";
import { fetchStatus, ratesBetween, type Status } from "../wire/status";
import { loadModels } from "./models";

export type Connection = "connecting" | "connected" | "lost";

export const connection = signal<Connection>("connecting");
export const status = signal<Status | undefined>(undefined);
export const rates = signal<{ steps: number; pictures: number } | undefined>(undefined);

/** Milliseconds between looks: at rest, while something runs here, and while the server is away. */
const PACE = { idle: 5000, busy: 1500, lost: 1000 };
/** Looks that may fail one after the other before a running stream is given up. */
const PATIENCE = 2;

let timer: ReturnType<typeof setTimeout> | undefined;
let looking = false;
let missed = 0;
let busy = false;
/** Looks of the latest while, which the rates are taken over. */
let looks: { status: Status; at: number }[] = [];
const WINDOW = 15_000;
const lostListeners = new Set<() => void>();

/** Tells when the server is found to be gone while it should be answering. */
export function onLost(listener: () => void): void {
  lostListeners.add(listener);
}

export function setBusy(value: boolean): void {
  if (busy === value) return;
  busy = value;
  schedule(0);
}

/** Something failed on the way to the server: look at once. */
export function suspect(): void {
  missed = PATIENCE;
  connection.value = "lost";
  schedule(0);
}

export function watch(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else schedule(0);
  });
  window.addEventListener("online", () => schedule(0));
  schedule(0);
}

function schedule(delay: number): void {
  clearTimeout(timer);
  if (!document.hidden || busy) timer = setTimeout(() => void look(), delay);
}

async function look(): Promise<void> {
  if (looking) return;
  looking = true;
  try {
    found(await fetchStatus());
  } catch {
    missed += 1;
    if (missed >= PATIENCE || connection.value !== "connected") {
      if (connection.value === "connected") lostListeners.forEach((listener) => listener());
      connection.value = "lost";
      rates.value = undefined;
    }
  } finally {
    looking = false;
  }
  schedule(connection.value === "lost" ? PACE.lost : busy ? PACE.busy : PACE.idle);
}

function found(now: Status): void {
  const at = performance.now();
  const last = looks.at(-1);
  const restarted = last !== undefined && now.uptime < last.status.uptime;
  if (restarted) looks = [];
  looks = [...looks.filter((look) => at - look.at <= WINDOW), { status: now, at }];
  const first = looks[0];
  rates.value = first === undefined ? undefined : ratesBetween(first.status, now, at - first.at);
  status.value = now;
  missed = 0;
  const back = connection.value !== "connected";
  connection.value = "connected";
  if (back || restarted) void loadModels();
}
