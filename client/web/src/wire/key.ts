// The API key, for servers that ask for one. Kept for this tab only.
import { signal } from "@preact/signals";

const PLACE = "raygen-api-key";

function stored(): string {
  try {
    return sessionStorage.getItem(PLACE) ?? "";
  } catch {
    return ""; // Storage may be forbidden; then the key lasts until the page is left.
  }
}

export const apiKey = signal(stored());

export function setApiKey(key: string): void {
  apiKey.value = key.trim();
  try {
    sessionStorage.setItem(PLACE, apiKey.value);
  } catch {
    // See above.
  }
}

/** Value of the authorization header, if there is a key. */
export function authorization(): string | undefined {
  return apiKey.value === "" ? undefined : `Bearer ${apiKey.value}`;
}
