// Positions of the grid to make anew, painted by a brush that snaps to them.

export interface Mask {
  width: number;
  height: number;
  anew: readonly boolean[];
}

export function emptyMask(width: number, height: number): Mask {
  return { width, height, anew: new Array<boolean>(width * height).fill(false) };
}

export function countOf(mask: Mask): number {
  return mask.anew.filter(Boolean).length;
}

/**
 * Paints or erases a round spot. Centre in cells (0.5 is the middle of the first), size the diameter in cells; the
 * cell under the centre always counts.
 */
export function paint(mask: Mask, x: number, y: number, size: number, value: boolean): Mask {
  const reach = size / 2;
  const anew = mask.anew.map((was, place) => {
    const [column, row] = [place % mask.width, Math.floor(place / mask.width)];
    const under = column === Math.floor(x) && row === Math.floor(y);
    return under || Math.hypot(column + 0.5 - x, row + 0.5 - y) < reach ? value : was;
  });
  return { ...mask, anew };
}

/** The same along a line, so that a quick stroke has no gaps. */
export function stroke(
  mask: Mask,
  from: readonly [number, number],
  to: readonly [number, number],
  size: number,
  value: boolean,
): Mask {
  const pieces = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) * 2));
  let painted = mask;
  for (let piece = 0; piece <= pieces; piece += 1) {
    const share = piece / pieces;
    painted = paint(
      painted,
      from[0] + (to[0] - from[0]) * share,
      from[1] + (to[1] - from[1]) * share,
      size,
      value,
    );
  }
  return painted;
}

/** One byte a position, white where to make anew: a RAW picture. */
export function maskBytes(mask: Mask): Uint8Array {
  return Uint8Array.from(mask.anew, (anew) => (anew ? 255 : 0));
}
