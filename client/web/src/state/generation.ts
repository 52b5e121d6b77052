// Starts, follows, stops and repeats generations; one at a time. Earlier ones of this session stay.
import { computed, signal } from "@preact/signals";
import type { GenerateRequest } from "../gen/raygen/v1/raygen_service_pb";
import type { Grid } from "../model/cells";
import { countOf, type Mask } from "../model/mask";
import { apply, begin, type Edit, fail, isActive, progressOf, type Run, stepsDone } from "../model/run";
import { repaintCanvas, requestOf, type Settings, unreadable, varyCanvas } from "../model/settings";
import { forgetPictures } from "../view/blob";
import { raygen } from "../wire/client";
import { type Failure, failureOf } from "../wire/failure";
import { announce, announceProgress } from "./announce";
import { onLost, setBusy, suspect } from "./connection";
import { fieldErrors, settings } from "./form";
import { keyNeeded } from "./key-needed";
import { resetView } from "./viewer";

/** Runs that are kept. */
const KEPT = 24;

export const history = signal<readonly Run[]>([]);
const shownId = signal<number | undefined>(undefined);
export const shown = computed(() => history.value.find((run) => run.id === shownId.value));
export const active = computed(() => history.value.find((run) => isActive(run)));
/** The server is full: when it is asked again, and for what. */
export const waiting = signal<{ until: number; message: string } | undefined>(undefined);

let nextId = 1;
let abort: AbortController | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let again: (() => void) | undefined;

onLost(() => {
  if (active.value !== undefined) abort?.abort(LOST);
});
const LOST = "the server is gone";

/** Generates what the form says. */
export function generate(): void {
  const request = ask(settings.value);
  if (request !== undefined) start(request);
}

/** Makes the painted positions anew, for the impression in the form. */
export function repaint(grid: Grid, film: Uint8Array, mask: Mask): void {
  if (countOf(mask) === 0) return;
  const request = ask({ ...settings.value, count: "1" }, repaintCanvas(grid, mask));
  if (request !== undefined) start(request, { kind: "repaint", before: grid, film, anew: mask.anew });
}

/** Makes a share of the positions anew, under another seed. */
export function vary(grid: Grid, film: Uint8Array, strength: number): void {
  const request = ask({ ...settings.value, seed: "" }, varyCanvas(grid, strength));
  if (request !== undefined) start(request, { kind: "vary", before: grid, film, anew: undefined });
}

export function cancel(): void {
  clearTimeout(retry);
  waiting.value = undefined;
  abort?.abort();
}

export function retryNow(): void {
  clearTimeout(retry);
  waiting.value = undefined;
  again?.();
}

/** The same request once more, under the seed that it had. */
export function repeat(run: Run): void {
  const request = { ...run.request };
  if (run.seed !== undefined && request.sampling !== undefined) {
    request.sampling = { ...request.sampling, seed: run.seed };
  }
  start(request, run.edit);
}

export function show(run: Run): void {
  shownId.value = run.id;
  resetView(run.samples.length);
}

function ask(from: Settings, canvas?: GenerateRequest["canvas"]): GenerateRequest | undefined {
  const wrong = unreadable(from);
  fieldErrors.value = wrong;
  if (wrong.size > 0) {
    announce("Some fields cannot be read.");
    return undefined;
  }
  return requestOf(from, canvas);
}

function start(request: GenerateRequest, edit?: Edit): void {
  if (active.value !== undefined) return;
  clearTimeout(retry);
  waiting.value = undefined;
  fieldErrors.value = new Map();
  const run = begin(nextId, request, edit);
  nextId += 1;
  keep(run);
  show(run);
  again = () => {
    remove(run.id);
    start(request, edit);
  };
  void follow(run);
}

async function follow(first: Run): Promise<void> {
  let run = first;
  const controller = new AbortController();
  abort = controller;
  setBusy(true);
  announce("Asking the server.");
  try {
    for await (const response of raygen.generate(first.request, { signal: controller.signal })) {
      run = apply(run, response);
      update(run);
      tell(run);
    }
    if (run.phase !== "done") ended(fail(run, { kind: "disconnected", message: "The connection was lost." }));
  } catch (thrown) {
    const lost = controller.signal.aborted && controller.signal.reason === LOST;
    const failure: Failure = lost ? { kind: "disconnected", message: "The server stopped answering." } : failureOf(thrown);
    ended(fail(run, failure));
  } finally {
    setBusy(false);
  }
}

function ended(run: Run): void {
  const failure = run.failure;
  if (failure === undefined) return;
  update(run);
  switch (failure.kind) {
    case "busy":
      remove(run.id);
      waiting.value = { until: Date.now() + failure.retryAfter, message: failure.message };
      retry = setTimeout(retryNow, failure.retryAfter);
      { announce("The server is full. It will be asked again."); return; }
    case "refused":
      remove(run.id);
      fieldErrors.value = failure.fields.size > 0 ? failure.fields : new Map([["", failure.message]]);
      { announce(`Refused: ${failure.message}`); return; }
    case "key":
      remove(run.id);
      keyNeeded.value = failure.message;
      { announce(`The server wants an API key: ${failure.message}`); return; }
    case "disconnected":
      suspect();
      { announce(`${failure.message} ${reached(run)}`); return; }
    case "cancelled":
      { announce(`Stopped. ${reached(run)}`); return; }
    case "failed":
      { announce(`Failed: ${failure.message}`); return; }
  }
}

/** How far a run got, in words. */
export function reached(run: Run): string {
  const films = run.samples.filter((sample) => sample.film !== undefined).length;
  if (films > 0) return `${films} of ${run.samples.length} films were finished.`;
  const step = Math.max(0, ...run.samples.map(stepsDone));
  return step === 0 ? "No step had been done." : `It got to step ${step} of ${run.stepCount}.`;
}

function tell(run: Run): void {
  if (run.phase === "queued") announce(run.queuePosition > 0 ? `Waiting behind ${run.queuePosition}.` : "Admitted.");
  else if (run.phase === "done") announce(run.samples.length > 1 ? "The films are finished." : "The film is finished.");
  else announceProgress(progressOf(run), `${Math.round(progressOf(run) * 100)} percent`);
}

function update(run: Run): void {
  history.value = history.value.map((each) => (each.id === run.id ? run : each));
}

function keep(run: Run): void {
  const runs = [run, ...history.value];
  runs.slice(KEPT).forEach(forget);
  history.value = runs.slice(0, KEPT);
}

function remove(id: number): void {
  history.value.filter((run) => run.id === id).forEach(forget);
  history.value = history.value.filter((run) => run.id !== id);
  if (shownId.value === id) {
    const before = history.value[0];
    shownId.value = before?.id;
    resetView(before?.samples.length ?? 1);
  }
}

function forget(run: Run): void {
  for (const sample of run.samples) {
    forgetPictures([sample.film, ...sample.frames.map((frame) => frame.preview)]);
  }
}
