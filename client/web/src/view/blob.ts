// Addresses of pictures in memory, one for each, until they are forgotten.
const urls = new WeakMap<Uint8Array, string>();

export function pictureUrl(bytes: Uint8Array, type: "image/png" | "image/jpeg"): string {
  const known = urls.get(bytes);
  if (known !== undefined) return known;
  const url = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type }));
  urls.set(bytes, url);
  return url;
}

export function forgetPictures(pictures: readonly (Uint8Array | undefined)[]): void {
  for (const bytes of pictures) {
    const url = bytes === undefined ? undefined : urls.get(bytes);
    if (bytes === undefined || url === undefined) continue;
    URL.revokeObjectURL(url);
    urls.delete(bytes);
  }
}
