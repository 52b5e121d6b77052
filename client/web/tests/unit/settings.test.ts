import { describe, expect, it } from "vitest";
import { fileName, INITIAL, requestOf, unreadable } from "../../src/model/settings";
import { ratesBetween } from "../../src/wire/status";
import { includes, toggled } from "../../src/model/findings";

describe("settings", () => {
  it("leave to the server what they do not say", () => {
    const { sampling } = requestOf({ ...INITIAL, impression: "Edema" });
    expect([sampling?.stepCount, sampling?.seed, sampling?.temperature]).toEqual([undefined, undefined, undefined]);
  });
  it("carry a seed of 64 bits whole", () => {
    expect(requestOf({ ...INITIAL, seed: "18446744073709551615" }).sampling?.seed).toBe(18446744073709551615n);
    expect(unreadable({ ...INITIAL, seed: "18446744073709551616" }).has("sampling.seed")).toBe(true);
  });
  it("send what is out of range, for the server to refuse, and stop only what is no number", () => {
    expect(unreadable({ ...INITIAL, temperature: "-3", count: "99" }).size).toBe(0);
    expect(unreadable({ ...INITIAL, temperature: "warm" }).has("sampling.temperature")).toBe(true);
  });
  it("make file names that say what the file is", () => {
    expect(fileName("Edema; 50 %", 7n, 0, "png")).toBe("synthetic-not-for-diagnosis_edema-50_seed-7_0.png");
  });
  it("put findings in and take them out again", () => {
    expect(toggled("Mass.", "Edema")).toBe("Mass. Edema.");
    expect(toggled("Mass. edema.", "Edema")).toBe("Mass.");
    expect(includes("Mass. edema", "Edema")).toBe(true);
  });
});

describe("rates", () => {
  const status = { uptime: 9, takingWork: true, slotsInUse: 0, slots: 8, waiting: 0, waitingCapacity: 1, steps: 0, pictures: 0 };
  it("are per second and per minute, and none across a restart", () => {
    const later = { ...status, uptime: 11, steps: 30, pictures: 1 };
    expect(ratesBetween(status, later, 2000)).toEqual({ steps: 15, pictures: 30 });
    expect(ratesBetween(later, { ...status, uptime: 1 }, 2000)).toBeUndefined();
  });
});
