// The form, and what the server said of its fields.
import { signal } from "@preact/signals";
import { INITIAL, type Settings } from "../model/settings";

export const settings = signal<Settings>(INITIAL);

/** Messages by proto field path. */
export const fieldErrors = signal<ReadonlyMap<string, string>>(new Map());

export function change<K extends keyof Settings>(name: K, value: Settings[K]): void {
  settings.value = { ...settings.value, [name]: value };
}

/** A field that is being mended is not wrong any more. */
export function mended(path: string): void {
  if (!fieldErrors.value.has(path)) return;
  const rest = new Map(fieldErrors.value);
  rest.delete(path);
  fieldErrors.value = rest;
}
