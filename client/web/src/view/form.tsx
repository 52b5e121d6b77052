// What to generate.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Model_State } from "../gen/raygen/v1/model_service_pb";
import { PreviewMode } from "../gen/raygen/v1/raygen_service_pb";
import { Sampler, View } from "../gen/raygen/v1/types_pb";
import { connection } from "../state/connection";
import { change, mended, settings } from "../state/form";
import { active, cancel, generate, shown } from "../state/generation";
import { chooseModel, model, models } from "../state/models";
import { Choice, errorId, errorOf, Field, NumberField } from "./field";
import { Terms } from "./terms";

const SAMPLERS = [
  [Sampler.MASKGIT, "MaskGIT"],
  [Sampler.HALTON, "Halton"],
  [Sampler.PUBLISHED, "Published"],
] as const;
const VIEWS = new Map([
  [View.AP, "AP"],
  [View.PA, "PA"],
  [View.LATERAL, "Lateral"],
  [View.FRONTAL, "Frontal"],
]);
const PREVIEWS = [
  [PreviewMode.DECODED, "Decoded"],
  [PreviewMode.APPROXIMATE, "Quick"],
  [PreviewMode.TOKENS, "Grid only"],
] as const;

export function Form(): JSX.Element {
  const [open, setOpen] = useState(() => window.matchMedia("(min-width: 900px)").matches);
  const running = active.value !== undefined;
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (!running) generate();
  };
  return (
    <form class="panel form" onSubmit={submit} noValidate aria-label="Generate">
      <Impression />
      <div class="go">
        {/* Two buttons, not one that changes: a click on Cancel must not end on a submit. */}
        {running ? (
          <button key="cancel" type="button" class="primary stop" onClick={cancel} data-testid="cancel">
            Cancel
          </button>
        ) : (
          <button key="generate" type="submit" class="primary" disabled={connection.value !== "connected"} data-testid="generate">
            Generate
          </button>
        )}
      </div>
      <details class="settings" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>Settings</summary>
        <Fields />
      </details>
    </form>
  );
}

function Impression(): JSX.Element {
  const error = errorOf("impression");
  const run = shown.value;
  const unknown = run?.request.impression === settings.value.impression ? run.unsupported : [];
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && active.value === undefined) {
      event.preventDefault();
      generate();
    }
  };
  return (
    <Field path="impression" label="Impression" note={unknown.length > 0 ? `Not known to the model: ${unknown.join(", ")}` : ""}>
      <textarea
        id="impression"
        rows={3}
        spellcheck={false}
        placeholder="What the radiologist would write"
        value={settings.value.impression}
        aria-invalid={error !== undefined}
        aria-describedby={errorId("impression")}
        onInput={(event) => {
          change("impression", event.currentTarget.value);
          mended("impression");
        }}
        onKeyDown={onKeyDown}
      />
      <Terms />
    </Field>
  );
}

function Fields(): JSX.Element {
  const now = settings.value;
  const views = model.value?.views ?? [];
  const defaults = model.value?.defaultSampling;
  return (
    <div class="fields">
      <NumberField path="sampling.step_count" label="Steps" name="steps" min={1} max={64} step={1} />
      <NumberField path="sampling.temperature" label="Temperature" name="temperature" min={0} max={2} step={0.05} />
      <NumberField
        path="sampling.guidance_scale"
        label="Guidance"
        name="guidance"
        min={1}
        max={8}
        step={0.1}
        disabled={model.value?.supportsGuidance === false}
      />
      <NumberField path="sample_count" label="Pictures" name="count" min={1} max={16} step={1} />
      <div class="pair">
        <Field path="sampling.seed" label="Seed">
          <input
            id="sampling.seed"
            inputMode="numeric"
            placeholder="drawn anew"
            value={now.seed}
            aria-invalid={errorOf("sampling.seed") !== undefined}
            aria-describedby={errorId("sampling.seed")}
            onInput={(event) => {
              change("seed", event.currentTarget.value);
              mended("sampling.seed");
            }}
          />
        </Field>
        <Choice
          path="sampling.sampler"
          label="Sampler"
          value={now.sampler}
          options={defaults === undefined ? [[Sampler.UNSPECIFIED, "Default"], ...SAMPLERS] : SAMPLERS}
          onChange={(value) => change("sampler", value)}
        />
        <Choice
          path="view"
          label="View"
          value={now.view}
          disabled={views.length === 0}
          options={
            views.length === 0
              ? [[View.UNSPECIFIED, "Model has none"]]
              : views.map((view) => [view, VIEWS.get(view) ?? String(view)] as const)
          }
          onChange={(value) => change("view", value)}
        />
        <Choice
          path="output.preview_mode"
          label="Preview"
          value={now.preview}
          options={PREVIEWS}
          onChange={(value) => change("preview", value)}
        />
      </div>
      <Field path="model" label="Model">
        <select
          id="model"
          value={now.model}
          aria-invalid={errorOf("model") !== undefined}
          aria-describedby={errorId("model")}
          onChange={(event) => chooseModel(event.currentTarget.value)}
        >
          {models.value.map((each) => (
            <option key={each.name} value={each.name} disabled={each.state !== Model_State.READY}>
              {shortName(each.name)}
              {each.state === Model_State.READY ? "" : " (not ready)"}
            </option>
          ))}
        </select>
      </Field>
    </div>
  );
}

/** models/a/versions/1 as a · 1. */
function shortName(name: string): string {
  const [, id, , version] = name.split("/");
  return version === undefined ? name : `${id ?? ""} · version ${version}`;
}
