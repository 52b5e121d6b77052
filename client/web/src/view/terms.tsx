// Findings that the model was trained on, to put into the impression.
import type { JSX } from "preact";
import { change, mended, settings } from "../state/form";
import { model } from "../state/models";

export function Terms(): JSX.Element | null {
  const terms = model.value?.supportedTerms ?? [];
  if (terms.length === 0) return null;
  return (
    <div class="terms" role="group" aria-label="Findings that the model knows">
      {terms.map((term) => (
        <button
          key={term}
          type="button"
          class="term"
          aria-pressed={includes(settings.value.impression, term)}
          onClick={() => {
            change("impression", toggled(settings.value.impression, term));
            mended("impression");
          }}
        >
          {term}
        </button>
      ))}
    </div>
  );
}

const sentences = (text: string): string[] =>
  text
    .split(/[.;\n]+/)
    .map((part) => part.trim())
    .filter((part) => part !== "");

export function includes(impression: string, term: string): boolean {
  return sentences(impression).some((part) => part.toLowerCase() === term.toLowerCase());
}

/** Adds a finding as a sentence of its own, or takes it out. */
export function toggled(impression: string, term: string): string {
  const parts = sentences(impression);
  const rest = parts.filter((part) => part.toLowerCase() !== term.toLowerCase());
  const next = rest.length < parts.length ? rest : [...parts, term];
  return next.map((part) => `${part}.`).join(" ");
}
