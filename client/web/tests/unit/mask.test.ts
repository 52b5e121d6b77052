import { describe, expect, it } from "vitest";
import { countOf, emptyMask, maskBytes, paint, stroke } from "../../src/model/mask";

describe("the mask", () => {
  it("paints the position under the brush, however small the brush", () => {
    const mask = paint(emptyMask(4, 4), 2.9, 1.1, 0.1, true);
    expect(mask.anew.flatMap((anew, place) => (anew ? [place] : []))).toEqual([6]);
  });
  it("leaves no gaps in a quick stroke", () => {
    expect(stroke(emptyMask(8, 1), [0.5, 0.5], [7.5, 0.5], 1, true).anew).toEqual(new Array(8).fill(true));
  });
  it("erases, and never paints outside", () => {
    const full = stroke(emptyMask(3, 3), [-5, 1.5], [9, 1.5], 9, true);
    expect(countOf(full)).toBe(9);
    expect(countOf(paint(full, 1.5, 1.5, 1, false))).toBe(8);
  });
  it("is white on the wire where to make anew", () => {
    expect([...maskBytes(paint(emptyMask(2, 1), 1.5, 0.5, 1, true))]).toEqual([0, 255]);
  });
});
