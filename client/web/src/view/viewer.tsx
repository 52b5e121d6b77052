// The light box: grid and picture, the scrubber under them, samples and what can be done with them.
import type { JSX } from "preact";
import { progressOf } from "../model/run";
import { active, shown } from "../state/generation";
import { sampleIndex, sideBySide, stop } from "../state/viewer";
import { shownAt } from "../model/scrubber";
import { Actions } from "./actions";
import { Film } from "./film";
import { GridView } from "./grid-view";
import { Samples } from "./samples";
import { Scrubber } from "./scrubber";

export function Viewer(): JSX.Element {
  const run = shown.value;
  const sample = run?.samples[sampleIndex.value];
  if (run === undefined || sample === undefined) return <Empty />;
  const at = shownAt(sample, stop.value);
  const share = progressOf(run);
  return (
    <section class="viewer" aria-label="Picture" data-phase={run.phase}>
      <div
        class={active.value === run ? "progress on" : "progress"}
        role="progressbar"
        aria-label="Progress"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share * 100)}
      >
        <svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
          <rect width={share * 100} height="1" />
        </svg>
      </div>
      <div class="screens">
        <GridView run={run} sample={sample} at={at} />
        {sideBySide.value && run.samples.length > 1 ? (
          <Samples run={run} big />
        ) : (
          <Film run={run} sample={sample} at={at} />
        )}
      </div>
      <Scrubber run={run} sample={sample} />
      {run.samples.length > 1 && !sideBySide.value && <Samples run={run} />}
      <Actions run={run} sample={sample} />
    </section>
  );
}

function Empty(): JSX.Element {
  return (
    <section class="viewer" aria-label="Picture">
      <div class="screens">
        <figure class="screen grid-screen">
          <div class="box blank">
            <svg viewBox="0 0 8 8" aria-hidden="true">
              {Array.from({ length: 64 }, (_, place) => (
                <rect key={place} x={(place % 8) + 0.06} y={Math.floor(place / 8) + 0.06} width=".88" height=".88" />
              ))}
            </svg>
          </div>
          <figcaption>Grid</figcaption>
        </figure>
        <figure class="screen film-screen">
          <div class="box blank">
            <p>
              Choose a finding or write an impression, then generate. The grid fills step by step, and the film appears
              from it.
            </p>
          </div>
          <figcaption>Film</figcaption>
        </figure>
      </div>
    </section>
  );
}
