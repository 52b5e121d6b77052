// Back and forth over the steps, while they come and afterwards.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Run, Sample } from "../model/run";
import { choose, describeStop, standing, stopsOf } from "../model/scrubber";
import { stop } from "../state/viewer";

/** Milliseconds a step when it is played. */
const BEAT = 180;

export function Scrubber({ run, sample }: { run: Run; sample: Sample }): JSX.Element {
  const [playing, setPlaying] = useState(false);
  const stops = stopsOf(sample);
  const place = standing(sample, stop.value);
  const where = describeStop(sample, stop.value, run.stepCount);

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      const next = standing(sample, stop.value) + 1;
      stop.value = choose(sample, next);
      if (stop.value === undefined) setPlaying(false);
    }, BEAT);
    return () => clearInterval(timer);
  }, [playing, sample]);

  const play = (): void => {
    if (!playing && place >= stops - 1) stop.value = 0;
    setPlaying(!playing);
  };
  return (
    <div class="scrubber">
      <button type="button" class="quiet icon" onClick={play} disabled={stops < 2} aria-label={playing ? "Pause" : "Play the steps"}>
        <svg viewBox="0 0 16 16" aria-hidden="true">
          {playing ? <path d="M3 2h4v12H3zM9 2h4v12H9z" /> : <path d="M3 1.5v13l11-6.5z" />}
        </svg>
      </button>
      <input
        type="range"
        min={0}
        max={Math.max(run.stepCount, stops - 1, 1)}
        step={1}
        value={Math.max(0, place)}
        disabled={stops === 0}
        aria-label="Step"
        aria-valuetext={where}
        data-testid="scrubber"
        onInput={(event) => {
          setPlaying(false);
          stop.value = choose(sample, Number(event.currentTarget.value));
          // A place that has not come yet is not stood on.
          event.currentTarget.value = String(standing(sample, stop.value));
        }}
      />
      <output>{where}</output>
    </div>
  );
}
