// The samples of a run side by side: a strip to choose from, or all of them big.
import type { JSX } from "preact";
import type { Run } from "../model/run";
import { shownAt } from "../model/scrubber";
import { lookAt, sampleIndex, sideBySide, stop } from "../state/viewer";
import { Picture } from "./film";

export function Samples({ run, big }: { run: Run; big?: boolean }): JSX.Element {
  const wide = big === true;
  const tiles = (
    <div class={wide ? `tiles big of-${Math.ceil(Math.sqrt(run.samples.length))}` : "tiles"} role="group" aria-label="Samples">
      {run.samples.map((sample, index) => (
        <button
          key={index}
          type="button"
          class="tile"
          aria-label={`Sample ${index + 1} of ${run.samples.length}`}
          aria-pressed={index === sampleIndex.value}
          data-testid="sample"
          onClick={() => lookAt(index)}
          onDblClick={() => (sideBySide.value = false)}
        >
          <Picture run={run} sample={sample} at={shownAt(sample, stop.value)} />
          <span class="corner bottom-left">{index + 1}</span>
        </button>
      ))}
    </div>
  );
  if (!wide) return tiles;
  return (
    <figure class="screen film-screen">
      <div class="box">
        {tiles}
        <span class="corner top-right caution">SYNTHETIC · Not for diagnosis</span>
      </div>
      <figcaption>
        <span>{run.samples.length} samples, seed {String(run.seed ?? "")}</span>
      </figcaption>
    </figure>
  );
}
