// Paints the mask over the film: by pointer, or by keys with a cell as cursor.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { countOf, type Mask, paint, stroke } from "../model/mask";
import { announce } from "../state/announce";
import { brushSize, erasing, mask as state } from "../state/viewer";

const SIDE = 768;
const MOVES: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export function Brush({ mask }: { mask: Mask }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const last = useRef<readonly [number, number] | undefined>(undefined);
  const [cursor, setCursor] = useState<readonly [number, number]>([mask.width >> 1, mask.height >> 1]);
  const [keys, setKeys] = useState(false);

  useEffect(() => canvas.current?.focus(), []);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (context !== null && context !== undefined) draw(context, mask, keys ? cursor : undefined);
  }, [mask, cursor, keys]);

  const cellAt = (event: PointerEvent): readonly [number, number] => {
    const box = canvas.current?.getBoundingClientRect() ?? new DOMRect(0, 0, 1, 1);
    return [
      ((event.clientX - box.left) / box.width) * mask.width,
      ((event.clientY - box.top) / box.height) * mask.height,
    ];
  };
  const onPointer = (event: PointerEvent): void => {
    if (event.type === "pointerdown") {
      canvas.current?.setPointerCapture(event.pointerId);
      last.current = cellAt(event);
      setKeys(false);
    }
    const from = last.current;
    if (from === undefined) return;
    const to = cellAt(event);
    state.value = stroke(state.value ?? mask, from, to, brushSize.value, !erasing.value && event.button !== 2);
    last.current = to;
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const move = MOVES[event.key];
    const paints = event.key === " " || event.key === "Enter";
    if (move === undefined && !paints) return;
    event.preventDefault();
    setKeys(true);
    const at = [
      Math.min(mask.width - 1, Math.max(0, cursor[0] + (move?.[0] ?? 0))),
      Math.min(mask.height - 1, Math.max(0, cursor[1] + (move?.[1] ?? 0))),
    ] as const;
    setCursor(at);
    if (paints || event.shiftKey) {
      state.value = paint(mask, at[0] + 0.5, at[1] + 0.5, brushSize.value, !erasing.value);
      announce(`${countOf(state.value)} positions painted.`);
    } else {
      announce(`Row ${at[1] + 1}, column ${at[0] + 1}${mask.anew[at[1] * mask.width + at[0]] ? ", painted" : ""}`);
    }
  };
  return (
    <canvas
      ref={canvas}
      class="brush"
      width={SIDE}
      height={SIDE}
      tabIndex={0}
      role="application"
      aria-label="Mask. Arrow keys move, space paints, shift with an arrow key paints along."
      data-testid="brush"
      onPointerDown={onPointer}
      onPointerMove={onPointer}
      onPointerUp={() => (last.current = undefined)}
      onPointerCancel={() => (last.current = undefined)}
      onKeyDown={onKeyDown}
      onBlur={() => setKeys(false)}
    />
  );
}

function draw(context: CanvasRenderingContext2D, mask: Mask, cursor: readonly [number, number] | undefined): void {
  const [width, height] = [SIDE / mask.width, SIDE / mask.height];
  context.clearRect(0, 0, SIDE, SIDE);
  context.fillStyle = "rgb(94 200 216 / 45%)";
  mask.anew.forEach((anew, place) => {
    if (anew) context.fillRect((place % mask.width) * width, Math.floor(place / mask.width) * height, width - 1, height - 1);
  });
  if (cursor === undefined) return;
  context.strokeStyle = "#ffffff";
  context.lineWidth = 4;
  context.strokeRect(cursor[0] * width + 2, cursor[1] * height + 2, width - 4, height - 4);
}
