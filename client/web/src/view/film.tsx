// The picture on its screen: preview, then film, with what a film carries in its corners.
import type { JSX } from "preact";
import type { Run, Sample } from "../model/run";
import { describeStop, type Shown } from "../model/scrubber";
import { mask, sampleIndex, stop } from "../state/viewer";
import { pictureUrl } from "./blob";
import { Brush } from "./brush";

interface Props {
  run: Run;
  sample: Sample;
  at: Shown;
}

export function Film({ run, sample, at }: Props): JSX.Element {
  const where = describeStop(sample, stop.value, run.stepCount);
  return (
    <figure class="screen film-screen">
      <div class="box">
        <Picture run={run} sample={sample} at={at} />
        {mask.value !== undefined && <Brush mask={mask.value} />}
        <span class="corner top-left">{run.request.impression}</span>
        <span class="corner top-right caution">
          SYNTHETIC
          <br />
          Not for diagnosis
        </span>
        <span class="corner bottom-left">
          {run.seed === undefined ? "" : `Seed ${run.seed}`}
          {run.samples.length > 1 ? ` · ${sampleIndex.value + 1} of ${run.samples.length}` : ""}
        </span>
        <span class="corner bottom-right" data-testid="where">
          {run.phase === "queued" ? waitingText(run) : where}
        </span>
      </div>
      <figcaption>
        <span>{at.film ? "Film" : "Preview"}</span>
        {run.edit !== undefined && <span>{run.edit.kind === "repaint" ? "Repainted" : "Varied"}</span>}
        {run.dropped > 0 && <span>{run.dropped} previews dropped: this reader was slow</span>}
      </figcaption>
    </figure>
  );
}

const waitingText = (run: Run): string => (run.queuePosition > 0 ? `Behind ${run.queuePosition} in the queue` : "Starting");

/** The picture of a sample at a stop, or a dark screen. */
export function Picture({ run, sample, at }: Props): JSX.Element {
  const impression = run.request.impression;
  if (at.film && sample.film !== undefined) {
    return (
      <img src={pictureUrl(sample.film, "image/png")} alt={`Synthetic chest X-ray: ${impression}`} data-testid="film" draggable={false} />
    );
  }
  if (at.frame?.preview !== undefined) {
    return (
      <img
        src={pictureUrl(at.frame.preview, "image/jpeg")}
        alt={`Preview after step ${at.frame.step}: ${impression}`}
        data-testid="preview"
        draggable={false}
      />
    );
  }
  if (run.edit !== undefined) {
    return <img class="waiting" src={pictureUrl(run.edit.film, "image/png")} alt="The picture being edited" draggable={false} />;
  }
  return <div class="dark" />;
}
