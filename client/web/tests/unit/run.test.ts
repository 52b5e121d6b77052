import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { GenerateRequestSchema, GenerateResponseSchema } from "../../src/gen/raygen/v1/raygen_service_pb";
import { apply, begin, fail, isActive, progressOf, stepsDone } from "../../src/model/run";

const progress = (sampleIndex: number, step: number) =>
  create(GenerateResponseSchema, {
    sampleIndex,
    event: {
      case: "progress",
      value: { step, stepCount: 4, grid: { width: 1, height: 1, tokenIds: [step], maskTokenId: 9 } },
    },
  });

describe("a run", () => {
  const request = create(GenerateRequestSchema, { sampleCount: 2, sampling: { stepCount: 4 } });

  it("keeps the steps of each sample apart, and counts both", () => {
    let run = begin(1, request);
    for (const [sample, step] of [[0, 1], [1, 1], [0, 2]] as const) run = apply(run, progress(sample, step));
    expect(run.samples.map(stepsDone)).toEqual([2, 1]);
    expect(progressOf(run)).toBeCloseTo(3 / 8);
    expect(isActive(run)).toBe(true);
  });
  it("takes seed and queue position from the server", () => {
    const run = apply(
      begin(1, request),
      create(GenerateResponseSchema, { event: { case: "admitted", value: { seed: 5n, queuePosition: 3 } } }),
    );
    expect([run.phase, run.seed, run.queuePosition]).toEqual(["queued", 5n, 3]);
  });
  it("keeps what had come when it fails", () => {
    const run = fail(apply(begin(1, request), progress(0, 1)), { kind: "disconnected", message: "" });
    expect([run.phase, stepsDone(run.samples[0])]).toEqual(["failed", 1]);
    expect(isActive(run)).toBe(false);
  });
});
