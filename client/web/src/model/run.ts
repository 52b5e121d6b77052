// One generation: what was asked, and all that has come of it. Events go in, a new value comes out.
import type { GenerateRequest, GenerateResponse } from "../gen/raygen/v1/raygen_service_pb";
import type { TokenGrid } from "../gen/raygen/v1/types_pb";
import type { Failure } from "../wire/failure";
import type { Grid } from "./cells";

/** A sample after a step. */
export interface Frame {
  step: number;
  grid: Grid;
  preview: Uint8Array | undefined;
  confidence: readonly number[];
}

export interface Sample {
  frames: readonly Frame[];
  /** The finished film, as PNG. */
  film: Uint8Array | undefined;
  grid: Grid | undefined;
}

export type Phase = "connecting" | "queued" | "running" | "done" | "stopped" | "failed";

export interface Run {
  id: number;
  request: GenerateRequest;
  /** What was made anew, where this is an edit. */
  edit: Edit | undefined;
  phase: Phase;
  model: string;
  seed: bigint | undefined;
  queuePosition: number;
  unsupported: readonly string[];
  stepCount: number;
  samples: readonly Sample[];
  dropped: number;
  /** Milliseconds in the queue, in steps, in the decoder. */
  took: { queue: number; steps: number; decode: number } | undefined;
  failure: Failure | undefined;
}

export interface Edit {
  kind: "repaint" | "vary";
  before: Grid;
  film: Uint8Array;
  /** Positions made anew; unknown to the page where the server chose them. */
  anew: readonly boolean[] | undefined;
}

export function begin(id: number, request: GenerateRequest, edit?: Edit): Run {
  return {
    id,
    request,
    edit,
    phase: "connecting",
    model: request.model,
    seed: request.sampling?.seed,
    queuePosition: 0,
    unsupported: [],
    stepCount: request.sampling?.stepCount ?? 0,
    samples: Array.from({ length: Math.max(1, request.sampleCount) }, () => ({
      frames: [],
      film: undefined,
      grid: undefined,
    })),
    dropped: 0,
    took: undefined,
    failure: undefined,
  };
}

export function gridOf(grid: TokenGrid): Grid {
  return { width: grid.width, height: grid.height, ids: grid.tokenIds, maskId: grid.maskTokenId };
}

/** What an event makes of a run. */
export function apply(run: Run, response: GenerateResponse): Run {
  const { event, sampleIndex } = response;
  switch (event.case) {
    case "admitted":
      return {
        ...run,
        phase: "queued",
        model: event.value.model,
        seed: event.value.seed,
        queuePosition: event.value.queuePosition,
        unsupported: event.value.unsupportedTerms,
      };
    case "progress": {
      const { step, stepCount, grid, preview, confidence } = event.value;
      if (grid === undefined) return run;
      const frame = { step, grid: gridOf(grid), preview: preview?.data, confidence };
      const samples = change(run.samples, sampleIndex, (sample) => ({ ...sample, frames: [...sample.frames, frame] }));
      return { ...run, phase: "running", stepCount, samples };
    }
    case "sample": {
      const { grid, image } = event.value;
      const samples = change(run.samples, sampleIndex, (sample) => ({
        ...sample,
        film: image?.data,
        grid: grid === undefined ? undefined : gridOf(grid),
      }));
      return { ...run, phase: "running", samples };
    }
    case "summary":
      return {
        ...run,
        phase: "done",
        dropped: event.value.droppedPreviewCount,
        took: {
          queue: milliseconds(event.value.queueDuration),
          steps: milliseconds(event.value.stepDuration),
          decode: milliseconds(event.value.decodeDuration),
        },
      };
    case undefined:
      return run;
  }
}

/** The run ended before its summary. */
export function fail(run: Run, failure: Failure): Run {
  return { ...run, phase: failure.kind === "cancelled" ? "stopped" : "failed", failure };
}

export function isActive(run: Run | undefined): boolean {
  return run !== undefined && ["connecting", "queued", "running"].includes(run.phase);
}

/** Steps done of a sample. */
export function stepsDone(sample: Sample | undefined): number {
  return sample?.frames.at(-1)?.step ?? 0;
}

/** Share done of the whole run, from 0 to 1. */
export function progressOf(run: Run): number {
  if (run.phase === "done") return 1;
  const all = run.stepCount * run.samples.length;
  const done = run.samples.reduce((sum, sample) => sum + (sample.film ? run.stepCount : stepsDone(sample)), 0);
  return all === 0 ? 0 : done / all;
}

function milliseconds(duration: { seconds: bigint; nanos: number } | undefined): number {
  return duration === undefined ? 0 : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

function change(samples: readonly Sample[], index: number, how: (sample: Sample) => Sample): readonly Sample[] {
  return samples.map((sample, place) => (place === index ? how(sample) : sample));
}
