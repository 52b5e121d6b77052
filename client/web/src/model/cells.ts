// What each position of a grid is after a step.

export const enum Cell {
  /** Undecided. */
  Masked = 0,
  /** Decided, or decided anew, by this step. */
  Fresh = 1,
  /** Decided by an earlier one. */
  Decided = 2,
  /** Never asked for: what an edit leaves as it is. */
  Kept = 3,
}

/** Ids of a grid, and the one that means undecided. */
export interface Grid {
  width: number;
  height: number;
  ids: readonly number[];
  maskId: number;
}

export interface Counts {
  masked: number;
  fresh: number;
  decided: number;
}

/** Compares a grid with the one before it. Without one before, everything decided is fresh. */
export function cellsOf(grid: Grid, before: readonly number[] | undefined, kept?: readonly boolean[]): Cell[] {
  return grid.ids.map((id, place) => {
    if (id === grid.maskId) return Cell.Masked;
    if (kept?.[place] === true) return Cell.Kept;
    return before?.[place] === id ? Cell.Decided : Cell.Fresh;
  });
}

export function countsOf(cells: readonly Cell[]): Counts {
  const counts = { masked: 0, fresh: 0, decided: 0 };
  for (const cell of cells) {
    if (cell === Cell.Masked) counts.masked += 1;
    else if (cell === Cell.Fresh) counts.fresh += 1;
    else counts.decided += 1;
  }
  return counts;
}

/** In words, for those who do not see it. */
export function describeCells(grid: Grid, counts: Counts): string {
  return (
    `Token grid, ${grid.height} by ${grid.width}: ${counts.decided} decided, ` +
    `${counts.fresh} just decided, ${counts.masked} masked`
  );
}
