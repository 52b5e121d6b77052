// The token grid on its screen, with its legend.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { cellsOf, countsOf, describeCells } from "../model/cells";
import type { Run, Sample } from "../model/run";
import type { Shown } from "../model/scrubber";
import { showConfidence } from "../state/viewer";
import { Facts } from "./facts";
import { type Painting, paintGrid } from "./paint-grid";
import { shadesOf } from "./shades";

const SIDE = 768;

interface Props {
  run: Run;
  sample: Sample;
  at: Shown;
}

export function GridView({ run, sample, at }: Props): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const grid = (at.film ? sample.grid : at.frame?.grid) ?? run.edit?.before;
  const before = at.film ? grid?.ids : (at.before?.grid.ids ?? startOf(run));
  const cells = grid === undefined ? [] : cellsOf(grid, before, keptOf(run));
  const counts = countsOf(cells);
  const picture = at.film ? sample.film : (at.frame?.preview ?? (at.frame === undefined ? run.edit?.film : undefined));
  const confidence = showConfidence.value ? at.frame?.confidence : undefined;

  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (grid === undefined || context === null || context === undefined) return;
    let current = true;
    const draw = (shades: Painting["shades"]): void =>
      paintGrid(context, SIDE, { grid, cells, shades, confidence: confidence?.length ? confidence : undefined });
    if (picture === undefined) {
      draw(undefined);
      return;
    }
    void shadesOf(picture, grid.width, grid.height).then((shades) => {
      if (current) draw(shades);
    });
    return () => {
      current = false;
    };
  }, [grid, picture, confidence, at.film]);

  return (
    <figure class="screen grid-screen">
      <div class="box">
        <canvas
          ref={canvas}
          width={SIDE}
          height={SIDE}
          role="img"
          aria-label={grid === undefined ? "Token grid, nothing decided yet" : describeCells(grid, counts)}
          data-masked={grid === undefined ? "" : counts.masked}
        />
      </div>
      <figcaption>
        <span>Grid</span>
        <Legend confidence={confidence !== undefined} />
        <button
          type="button"
          class="quiet"
          aria-pressed={showConfidence.value}
          onClick={() => (showConfidence.value = !showConfidence.value)}
        >
          Confidence
        </button>
      </figcaption>
      <Facts run={run} />
    </figure>
  );
}

function Legend({ confidence }: { confidence: boolean }): JSX.Element {
  if (confidence) return <span class="legend ramp">0 <i /> 1</span>;
  return (
    <span class="legend">
      <i class="masked" /> masked <i class="fresh" /> just decided <i class="decided" /> decided
    </span>
  );
}

/** The grid that an edit starts from, as far as the page knows it. */
function startOf(run: Run): readonly number[] | undefined {
  const edit = run.edit;
  if (edit === undefined) return undefined;
  const { anew, before } = edit;
  return anew === undefined ? before.ids : before.ids.map((id, place) => (anew[place] === true ? before.maskId : id));
}

function keptOf(run: Run): readonly boolean[] | undefined {
  return run.edit?.anew?.map((anew) => !anew);
}

