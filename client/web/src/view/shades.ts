// The mean gray of a picture under each position of the grid.
const known = new WeakMap<Uint8Array, Promise<Uint8ClampedArray | undefined>>();

export function shadesOf(bytes: Uint8Array, width: number, height: number): Promise<Uint8ClampedArray | undefined> {
  const before = known.get(bytes);
  if (before !== undefined) return before;
  const shades = measure(bytes, width, height).catch(() => undefined);
  known.set(bytes, shades);
  return shades;
}

async function measure(bytes: Uint8Array, width: number, height: number): Promise<Uint8ClampedArray | undefined> {
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)]), {
    resizeWidth: width,
    resizeHeight: height,
    resizeQuality: "medium",
  });
  const context = new OffscreenCanvas(width, height).getContext("2d");
  if (context === null) return undefined;
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  bitmap.close();
  return Uint8ClampedArray.from({ length: width * height }, (_, place) => data[place * 4] ?? 0);
}
