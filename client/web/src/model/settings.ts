// What the form holds, and the request that comes of it. Nothing is checked here that the server checks.
import { create } from "@bufbuild/protobuf";
import type { Model } from "../gen/raygen/v1/model_service_pb";
import {
  type Canvas,
  CanvasSchema,
  type GenerateRequest,
  GenerateRequestSchema,
  PreviewMode,
} from "../gen/raygen/v1/raygen_service_pb";
import { ImageFormat, ImageSchema, Sampler, TokenGridSchema, View } from "../gen/raygen/v1/types_pb";
import type { Grid } from "./cells";
import { type Mask, maskBytes } from "./mask";

/** Numbers stay text until they are sent: what somebody types half is no number. Empty takes the model's default. */
export interface Settings {
  model: string;
  impression: string;
  steps: string;
  temperature: string;
  guidance: string;
  seed: string;
  count: string;
  sampler: Sampler;
  view: View;
  preview: PreviewMode;
}

export const INITIAL: Settings = {
  model: "",
  impression: "",
  steps: "",
  temperature: "",
  guidance: "",
  seed: "",
  count: "1",
  sampler: Sampler.UNSPECIFIED,
  view: View.UNSPECIFIED,
  preview: PreviewMode.DECODED,
};

/** The model's defaults, in what the form shows. */
export function withDefaults(settings: Settings, model: Model): Settings {
  const sampling = model.defaultSampling;
  const text = (value: number | undefined): string => (value === undefined ? "" : String(Number(value.toPrecision(6))));
  return {
    ...settings,
    model: model.name,
    steps: text(sampling?.stepCount),
    temperature: text(sampling?.temperature),
    guidance: model.supportsGuidance ? text(sampling?.guidanceScale) : "",
    sampler: sampling?.sampler ?? Sampler.UNSPECIFIED,
    view: model.defaultView,
  };
}

/** What is no number at all, by field path: the wire cannot carry it, so the server cannot refuse it. */
export function unreadable(settings: Settings): Map<string, string> {
  const wrong = new Map<string, string>();
  const check = (path: string, text: string, whole: boolean): void => {
    const value = text.trim();
    if (value === "") return;
    if (whole ? !/^\d{1,20}$/.test(value) : !Number.isFinite(Number(value))) {
      wrong.set(path, whole ? "must be a whole number, 0 or more" : "must be a number");
    }
  };
  check("sampling.step_count", settings.steps, true);
  check("sampling.temperature", settings.temperature, false);
  check("sampling.guidance_scale", settings.guidance, false);
  check("sampling.seed", settings.seed, true);
  check("sample_count", settings.count, true);
  if (/^\d+$/.test(settings.seed.trim()) && BigInt(settings.seed.trim()) >= 1n << 64n) {
    wrong.set("sampling.seed", "must be below 2^64");
  }
  for (const [path, text] of [
    ["sampling.step_count", settings.steps],
    ["sample_count", settings.count],
  ] as const) {
    if (!wrong.has(path) && Number(text) >= 2 ** 32) wrong.set(path, "is too large");
  }
  return wrong;
}

export function requestOf(settings: Settings, canvas?: Canvas): GenerateRequest {
  const number = (text: string): number | undefined => (text.trim() === "" ? undefined : Number(text));
  const [stepCount, temperature, guidanceScale] = [settings.steps, settings.temperature, settings.guidance].map(number);
  return create(GenerateRequestSchema, {
    model: settings.model,
    impression: settings.impression,
    sampleCount: number(settings.count) ?? 1,
    view: settings.view,
    sampling: {
      sampler: settings.sampler,
      ...(stepCount === undefined ? {} : { stepCount }),
      ...(temperature === undefined ? {} : { temperature }),
      ...(guidanceScale === undefined ? {} : { guidanceScale }),
      ...(settings.seed.trim() === "" ? {} : { seed: BigInt(settings.seed.trim()) }),
    },
    output: { previewMode: settings.preview, imageFormat: ImageFormat.PNG, includeConfidence: true },
    ...(canvas === undefined ? {} : { canvas }),
  });
}

/** An edit: the grid of a picture, and where to make it anew. */
export function repaintCanvas(grid: Grid, mask: Mask): Canvas {
  const picture = create(ImageSchema, {
    format: ImageFormat.RAW,
    data: maskBytes(mask),
    width: mask.width,
    height: mask.height,
    bitDepth: 8,
  });
  return create(CanvasSchema, { source: { case: "grid", value: wireGrid(grid) }, mask: picture });
}

/** A variation: a share of positions, which the server chooses by the seed. */
export function varyCanvas(grid: Grid, strength: number): Canvas {
  return create(CanvasSchema, { source: { case: "grid", value: wireGrid(grid) }, strength });
}

export function wireGrid(grid: Grid): ReturnType<typeof create<typeof TokenGridSchema>> {
  return create(TokenGridSchema, {
    height: grid.height,
    width: grid.width,
    tokenIds: [...grid.ids],
    maskTokenId: grid.maskId,
  });
}

/** Tells the picture's origin by its name alone. */
export function fileName(impression: string, seed: bigint | undefined, sample: number, ending: string): string {
  const words = impression
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, 40);
  return `synthetic-not-for-diagnosis_${words || "film"}_seed-${seed ?? 0n}_${sample}.${ending}`;
}
