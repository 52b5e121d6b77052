// Draws a grid: masked, just decided, decided; or the confidence of each position.
import { Cell, type Grid } from "../model/cells";

/** The grid is drawn on black in both themes, as films are. */
export const COLOURS = { background: "#07090c", masked: "#151b23", maskedEdge: "#232c37", fresh: "#5ec8d8" };

export interface Painting {
  grid: Grid;
  cells: readonly Cell[];
  /** Gray of each position; undefined before it is known. */
  shades: Uint8ClampedArray | undefined;
  /** Confidence to draw instead. */
  confidence: readonly number[] | undefined;
}

export function paintGrid(context: CanvasRenderingContext2D, side: number, painting: Painting): void {
  const { grid, cells, shades, confidence } = painting;
  context.fillStyle = COLOURS.background;
  context.fillRect(0, 0, side, side);
  const [width, height] = [side / grid.width, side / grid.height];
  const gap = Math.max(1, Math.round(width / 14));
  cells.forEach((cell, place) => {
    const x = Math.round((place % grid.width) * width);
    const y = Math.round(Math.floor(place / grid.width) * height);
    const right = Math.round(((place % grid.width) + 1) * width);
    const bottom = Math.round((Math.floor(place / grid.width) + 1) * height);
    const box = [x, y, right - x - gap, bottom - y - gap] as const;
    if (cell === Cell.Masked) {
      context.fillStyle = COLOURS.maskedEdge;
      context.fillRect(...box);
      context.fillStyle = COLOURS.masked;
      context.fillRect(box[0] + 1, box[1] + 1, box[2] - 2, box[3] - 2);
      return;
    }
    const sure = confidence?.[place];
    context.fillStyle =
      sure !== undefined ? heat(sure) : cell === Cell.Fresh ? COLOURS.fresh : gray(shades?.[place], grid.ids[place] ?? 0);
    context.fillRect(...box);
    if (sure !== undefined && cell === Cell.Fresh) {
      context.strokeStyle = COLOURS.fresh;
      context.lineWidth = 2;
      context.strokeRect(box[0] + 1, box[1] + 1, box[2] - 2, box[3] - 2);
    }
  });
}

function gray(shade: number | undefined, id: number): string {
  // Before the picture is there, ids tell positions apart.
  const value = shade ?? 40 + (((id * 2654435761) % 2 ** 32) / 2 ** 32) * 80;
  const level = Math.round(26 + Math.min(255, value) * 0.86);
  return `rgb(${level} ${level} ${Math.min(255, level + 4)})`;
}

/** From dark violet (0) over orange to pale yellow (1), each lighter than the one before: legible without colour. */
export function heat(confidence: number): string {
  const stops = [
    [31, 17, 60],
    [120, 28, 109],
    [207, 68, 70],
    [251, 155, 6],
    [252, 255, 164],
  ] as const;
  const place = Math.min(1, Math.max(0, confidence)) * (stops.length - 1);
  const below = stops[Math.min(Math.floor(place), stops.length - 2)] ?? stops[0];
  const above = stops[Math.min(Math.floor(place) + 1, stops.length - 1)] ?? stops[0];
  const share = place - Math.min(Math.floor(place), stops.length - 2);
  const mix = (channel: 0 | 1 | 2): number => Math.round(below[channel] + (above[channel] - below[channel]) * share);
  return `rgb(${mix(0)} ${mix(1)} ${mix(2)})`;
}
