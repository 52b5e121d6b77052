// What a run was: model, seed, where the time went.
import { Fragment, type JSX } from "preact";
import type { Run } from "../model/run";

export function Facts({ run }: { run: Run }): JSX.Element {
  const [, id, , version] = run.model.split("/");
  const took = run.took;
  const rows: (readonly [string, string])[] = [
    ["Model", version === undefined ? run.model : `${id ?? ""}, version ${version}`],
    ["Seed", String(run.seed ?? "–")],
    ["Steps", String(run.stepCount || "–")],
    ["Guidance", String(run.request.sampling?.guidanceScale ?? "–")],
  ];
  if (took !== undefined) {
    rows.push(["Time", `${seconds(took.steps)} in steps, ${seconds(took.decode)} decoding, ${seconds(took.queue)} waiting`]);
  }
  if (run.unsupported.length > 0) rows.push(["Not known", run.unsupported.join(", ")]);
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <Fragment key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </Fragment>
      ))}
    </dl>
  );
}

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;
