// What was made in this session.
import type { JSX } from "preact";
import type { Run } from "../model/run";
import { shownAt } from "../model/scrubber";
import { history, show, shown } from "../state/generation";
import { Picture } from "./film";

export function History(): JSX.Element | null {
  const runs = history.value;
  if (runs.length === 0) return null;
  return (
    <nav class="history" aria-label="This session">
      <h2>This session</h2>
      <ol>
        {runs.map((run) => (
          <li key={run.id}>
            <button
              type="button"
              class="tile"
              aria-current={run === shown.value}
              aria-label={`${run.request.impression}, ${word(run)}`}
              title={run.request.impression}
              data-testid="history"
              onClick={() => show(run)}
            >
              <Thumbnail run={run} />
              {run.samples.length > 1 && <span class="corner bottom-right">×{run.samples.length}</span>}
            </button>
          </li>
        ))}
      </ol>
    </nav>
  );
}

function Thumbnail({ run }: { run: Run }): JSX.Element {
  const sample = run.samples[0];
  return sample === undefined ? <div class="dark" /> : <Picture run={run} sample={sample} at={shownAt(sample, undefined)} />;
}

function word(run: Run): string {
  if (run.edit !== undefined) return `${run.edit.kind === "vary" ? "varied" : "repainted"}, ${run.phase}`;
  return run.phase;
}
