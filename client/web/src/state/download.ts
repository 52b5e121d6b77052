// Saves a film as PNG, as it came, or as DICOM, which the server makes of its grid. Both say that they are synthetic.
import { ImageFormat } from "../gen/raygen/v1/types_pb";
import type { Run } from "../model/run";
import { fileName, wireGrid } from "../model/settings";
import { raygen } from "../wire/client";
import { failureOf } from "../wire/failure";
import { announce } from "./announce";
import { signal } from "@preact/signals";

/** What went wrong with the last download. */
export const downloadProblem = signal<string | undefined>(undefined);

export function savePng(run: Run, index: number): void {
  const film = run.samples[index]?.film;
  if (film !== undefined) save(film, "image/png", fileName(run.request.impression, run.seed, index, "png"));
}

export async function saveDicom(run: Run, index: number): Promise<void> {
  const grid = run.samples[index]?.grid;
  if (grid === undefined) return;
  downloadProblem.value = undefined;
  try {
    const { image } = await raygen.decode({ model: run.model, grid: wireGrid(grid), imageFormat: ImageFormat.DICOM });
    if (image === undefined) throw new Error("no picture came");
    save(image.data, "application/dicom", fileName(run.request.impression, run.seed, index, "dcm"));
  } catch (thrown) {
    const failure = failureOf(thrown);
    downloadProblem.value = "message" in failure ? failure.message : "The download was stopped.";
  }
}

function save(bytes: Uint8Array, type: string, name: string): void {
  const url = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken the bytes by the next minute.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  announce(`Saved as ${name}`);
}
