import { describe, expect, it } from "vitest";
import type { Sample } from "../../src/model/run";
import { choose, describeStop, shownAt, standing } from "../../src/model/scrubber";

const sample = (steps: number, film: boolean): Sample => ({
  frames: Array.from({ length: steps }, (_, at) => ({
    step: at + 1,
    grid: { width: 1, height: 1, ids: [0], maskId: 1 },
    preview: undefined,
    confidence: [],
  })),
  film: film ? new Uint8Array() : undefined,
  grid: undefined,
});

describe("the scrubber", () => {
  it("follows the steps while nobody holds it, and ends at the film", () => {
    expect(shownAt(sample(3, false), undefined).frame?.step).toBe(3);
    expect(shownAt(sample(4, false), undefined).frame?.step).toBe(4);
    expect(shownAt(sample(4, true), undefined).film).toBe(true);
  });
  it("stays where it was put while steps come in", () => {
    const stop = choose(sample(5, false), 1);
    expect(shownAt(sample(5, false), stop).frame?.step).toBe(2);
    expect(shownAt(sample(9, true), stop).frame?.step).toBe(2);
    expect(shownAt(sample(9, true), stop).before?.step).toBe(1);
  });
  it("follows again from its last stop on, and never stands beyond it", () => {
    expect(choose(sample(5, false), 4)).toBeUndefined();
    expect(choose(sample(5, false), 40)).toBeUndefined();
    expect(standing(sample(2, false), 7)).toBe(1);
  });
  it("stands nowhere before the first step", () => {
    expect(standing(sample(0, false), undefined)).toBe(-1);
    expect(standing(sample(0, false), 3)).toBe(-1);
    expect(describeStop(sample(0, false), undefined, 4)).toBe("No step yet");
  });
  it("says where it is", () => {
    expect(describeStop(sample(2, true), 0, 2)).toBe("Step 1 of 2");
    expect(describeStop(sample(2, true), undefined, 2)).toBe("Film");
  });
});
