// What can be done with a film: save, repeat, vary, repaint.
import type { JSX } from "preact";
import { countOf, emptyMask } from "../model/mask";
import type { Run, Sample } from "../model/run";
import { downloadProblem, saveDicom, savePng } from "../state/download";
import { announce } from "../state/announce";
import { change } from "../state/form";
import { active, repaint, vary } from "../state/generation";
import { brushSize, erasing, mask, sampleIndex, sideBySide, stop, strength } from "../state/viewer";

interface Props {
  run: Run;
  sample: Sample;
}

export function Actions({ run, sample }: Props): JSX.Element {
  const { film, grid } = sample;
  const ready = film !== undefined && grid !== undefined && active.value === undefined;
  if (mask.value !== undefined && ready) return <Repaint grid={grid} film={film} />;
  const several = run.samples.length > 1;
  return (
    <div class="actions">
      {several && (
        <button type="button" aria-pressed={sideBySide.value} onClick={() => (sideBySide.value = !sideBySide.value)}>
          Side by side
        </button>
      )}
      <button type="button" disabled={run.seed === undefined} onClick={() => {
          change("seed", String(run.seed ?? ""));
          announce("The next pictures take the same seed.");
        }}>
        Same seed
      </button>
      <span class="joined">
        <button type="button" disabled={!ready} onClick={() => ready && vary(grid, film, strength.value)}>
          Vary
        </button>
        <label>
          <span class="visually-hidden">Share made anew by vary</span>
          <select value={strength.value} onChange={(event) => (strength.value = Number(event.currentTarget.value))}>
            {[0.2, 0.4, 0.6, 0.8].map((share) => (
              <option key={share} value={share}>
                {share * 100} %
              </option>
            ))}
          </select>
        </label>
      </span>
      <button
        type="button"
        disabled={!ready}
        data-testid="repaint"
        onClick={() => {
          if (grid === undefined) return;
          sideBySide.value = false;
          stop.value = undefined;
          mask.value = emptyMask(grid.width, grid.height);
        }}
      >
        Repaint
      </button>
      <span class="spacer" />
      <button type="button" disabled={film === undefined} data-testid="png" onClick={() => savePng(run, sampleIndex.value)}>
        PNG
      </button>
      <button type="button" disabled={grid === undefined} data-testid="dicom" onClick={() => void saveDicom(run, sampleIndex.value)}>
        DICOM
      </button>
      {downloadProblem.value !== undefined && (
        <p class="error" role="alert">
          {downloadProblem.value}
        </p>
      )}
    </div>
  );
}

function Repaint({ grid, film }: { grid: NonNullable<Sample["grid"]>; film: Uint8Array }): JSX.Element {
  const painted = mask.value;
  const count = painted === undefined ? 0 : countOf(painted);
  return (
    <div class="actions repainting" role="group" aria-label="Repaint">
      <p>Paint what to make anew, change the impression if you like.</p>
      <label class="inline">
        Brush
        <input
          type="range"
          min={1}
          max={7}
          step={1}
          value={brushSize.value}
          onInput={(event) => (brushSize.value = Number(event.currentTarget.value))}
        />
      </label>
      <button type="button" aria-pressed={erasing.value} onClick={() => (erasing.value = !erasing.value)}>
        Erase
      </button>
      <button type="button" disabled={count === 0} onClick={() => (mask.value = emptyMask(grid.width, grid.height))}>
        Clear
      </button>
      <span class="spacer" />
      <button type="button" onClick={() => (mask.value = undefined)}>
        Leave
      </button>
      <button
        type="button"
        class="primary"
        disabled={count === 0}
        data-testid="repaint-go"
        onClick={() => painted !== undefined && repaint(grid, film, painted)}
      >
        Repaint {count > 0 ? `${count} of ${grid.ids.length}` : ""}
      </button>
    </div>
  );
}
