// What of a run is looked at, and how.
import { signal } from "@preact/signals";
import type { Mask } from "../model/mask";
import type { Stop } from "../model/scrubber";

/** The sample on the big screen. */
export const sampleIndex = signal(0);
export const stop = signal<Stop>(undefined);
export const showConfidence = signal(false);
export const sideBySide = signal(false);
/** The mask being painted; undefined when no repaint is under way. */
export const mask = signal<Mask | undefined>(undefined);
export const brushSize = signal(3);
export const erasing = signal(false);
/** Share of positions that "vary" makes anew. */
export const strength = signal(0.4);

export function lookAt(index: number): void {
  sampleIndex.value = index;
  mask.value = undefined;
}

export function resetView(samples: number): void {
  sampleIndex.value = 0;
  stop.value = undefined;
  sideBySide.value = samples > 1;
  mask.value = undefined;
}
