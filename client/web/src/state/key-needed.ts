// What the server said when it wanted a key; undefined while it is content.
import { signal } from "@preact/signals";

export const keyNeeded = signal<string | undefined>(undefined);
