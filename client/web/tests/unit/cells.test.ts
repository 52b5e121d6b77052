import { describe, expect, it } from "vitest";
import { Cell, cellsOf, countsOf, describeCells } from "../../src/model/cells";

const grid = (ids: number[]) => ({ width: 2, height: 2, ids, maskId: 9 });

describe("cells of a grid", () => {
  it("tells masked, just decided and decided apart", () => {
    expect(cellsOf(grid([1, 9, 3, 4]), [1, 9, 9, 5])).toEqual([Cell.Decided, Cell.Masked, Cell.Fresh, Cell.Fresh]);
  });
  it("takes everything for just decided in the first step", () => {
    expect(cellsOf(grid([1, 9, 9, 2]), undefined)).toEqual([Cell.Fresh, Cell.Masked, Cell.Masked, Cell.Fresh]);
  });
  it("shows a position as masked again when a refinement opens it", () => {
    expect(cellsOf(grid([9, 1, 1, 1]), [1, 1, 1, 1])[0]).toBe(Cell.Masked);
  });
  it("marks what an edit leaves alone as kept, and counts it as decided", () => {
    const cells = cellsOf(grid([1, 2, 9, 4]), undefined, [true, false, false, true]);
    expect(cells).toEqual([Cell.Kept, Cell.Fresh, Cell.Masked, Cell.Kept]);
    expect(countsOf(cells)).toEqual({ masked: 1, fresh: 1, decided: 2 });
  });
  it("is told in words", () => {
    expect(describeCells(grid([]), { masked: 3, fresh: 1, decided: 0 })).toContain("3 masked");
  });
});
