// How busy the server is: /status.json, which costs its engine nothing.
import { authorization } from "./key";

export interface Status {
  uptime: number;
  takingWork: boolean;
  slotsInUse: number;
  slots: number;
  waiting: number;
  waitingCapacity: number;
  steps: number;
  pictures: number;
}

const PATIENCE = 4000;

/** Rejects when the server is not there within four seconds, or is something else. */
export async function fetchStatus(): Promise<Status> {
  const value = authorization();
  const response = await fetch("status.json", {
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
    ...(value === undefined ? {} : { headers: { authorization: value } }),
  });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return parseStatus(await response.json());
}

export function parseStatus(json: unknown): Status {
  if (typeof json !== "object" || json === null) throw new TypeError("not a status");
  const fields = json as Record<string, unknown>;
  const count = (name: string): number => {
    const value = fields[name];
    if (typeof value !== "number") throw new TypeError(`${name} is not a number`);
    return value;
  };
  return {
    uptime: count("uptime_seconds"),
    takingWork: fields["taking_work"] === true,
    slotsInUse: count("slots_in_use"),
    slots: count("slots"),
    waiting: count("requests_waiting"),
    waitingCapacity: count("requests_waiting_capacity"),
    steps: count("steps"),
    pictures: count("pictures"),
  };
}

/** Steps a second and pictures a minute between two looks; nothing where the server restarted between them. */
export function ratesBetween(
  before: Status,
  after: Status,
  milliseconds: number,
): { steps: number; pictures: number } | undefined {
  if (milliseconds <= 0 || after.uptime < before.uptime || after.steps < before.steps) return undefined;
  return {
    steps: ((after.steps - before.steps) * 1000) / milliseconds,
    pictures: ((after.pictures - before.pictures) * 60_000) / milliseconds,
  };
}
