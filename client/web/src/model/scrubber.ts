// Where the scrubber stands: at a step, or at the end, which moves while steps still come in.
import type { Frame, Sample } from "./run";

/** A stop of the scrubber; undefined follows what comes. */
export type Stop = number | undefined;

export interface Shown {
  /** Undefined at the finished film, and before the first step. */
  frame: Frame | undefined;
  before: Frame | undefined;
  /** Whether the film itself is shown. */
  film: boolean;
}

/** Stops of a sample: one a step that came, one more for the film. */
export function stopsOf(sample: Sample): number {
  return sample.frames.length + (sample.film === undefined ? 0 : 1);
}

/** The stop that is shown, from 0; -1 where there is none yet. */
export function standing(sample: Sample, stop: Stop): number {
  const last = stopsOf(sample) - 1;
  return stop === undefined ? last : Math.max(Math.min(stop, last), Math.min(0, last));
}

/** A stop chosen by hand: the last one means to follow. */
export function choose(sample: Sample, place: number): Stop {
  return place >= stopsOf(sample) - 1 ? undefined : Math.max(0, place);
}

export function shownAt(sample: Sample, stop: Stop): Shown {
  const place = standing(sample, stop);
  const film = sample.film !== undefined && place === sample.frames.length;
  const at = film ? sample.frames.length - 1 : place;
  return { frame: sample.frames[at], before: sample.frames[at - 1], film };
}

/** In words, for the label and for screen readers. */
export function describeStop(sample: Sample, stop: Stop, stepCount: number): string {
  const { frame, film } = shownAt(sample, stop);
  if (film) return "Film";
  return frame === undefined ? "No step yet" : `Step ${frame.step} of ${stepCount}`;
}
