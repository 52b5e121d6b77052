// Findings that the model was trained on, to put into the impression.
import type { JSX } from "preact";
import { change, mended, settings } from "../state/form";
import { includes, toggled } from "../model/findings";
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
