// What screen readers are told: seldom enough to be heard out.
import { signal } from "@preact/signals";

export const announcement = signal("");

let quarter = -1;

export function announce(text: string): void {
  quarter = -1;
  announcement.value = text;
}

/** Tells each quarter once. */
export function announceProgress(share: number, text: string): void {
  const reached = Math.floor(share * 4);
  if (reached === quarter) return;
  quarter = reached;
  announcement.value = text;
}
