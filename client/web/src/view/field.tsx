// A labelled field with the server's message at it.
import type { ComponentChildren, JSX, TargetedEvent } from "preact";
import { change, fieldErrors, mended, settings } from "../state/form";

export function errorOf(path: string): string | undefined {
  return fieldErrors.value.get(path);
}

export const errorId = (path: string): string => `${path}-error`;

interface FieldProps {
  /** Path of the proto field; the input's id, too. */
  path: string;
  label: string;
  note?: string;
  /** Label and field in one line. */
  numeric?: boolean;
  children: ComponentChildren;
}

export function Field({ path, label, note, numeric, children }: FieldProps): JSX.Element {
  const error = errorOf(path);
  return (
    <div class={`field${numeric === true ? " numeric" : ""}${error === undefined ? "" : " wrong"}`}>
      <label for={path}>{label}</label>
      {children}
      <p id={errorId(path)} class="error" role={error === undefined ? undefined : "alert"}>
        {error === undefined ? "" : `${label} ${error}`}
      </p>
      {note !== undefined && note !== "" && <p class="note">{note}</p>}
    </div>
  );
}

interface NumberProps {
  path: string;
  label: string;
  name: "steps" | "temperature" | "guidance" | "count";
  min: number;
  max: number;
  step: number;
  disabled?: boolean;
}

/** A slider over the usual range, and a number that may be any. */
export function NumberField({ path, label, name, min, max, step, disabled }: NumberProps): JSX.Element {
  const value = settings.value[name];
  const set = (event: TargetedEvent<HTMLInputElement>): void => {
    change(name, event.currentTarget.value);
    mended(path);
  };
  const inert = disabled === true;
  return (
    <Field path={path} label={label} note={inert ? "Not with this model" : ""} numeric>
      <div class="number">
        <input
          type="range"
          tabIndex={-1}
          aria-hidden="true"
          min={min}
          max={max}
          step={step}
          value={value === "" ? min : value}
          disabled={inert}
          onInput={set}
        />
        <input
          id={path}
          type="text"
          inputMode="decimal"
          placeholder="default"
          value={value}
          disabled={inert}
          aria-invalid={errorOf(path) !== undefined}
          aria-describedby={errorId(path)}
          onInput={set}
        />
      </div>
    </Field>
  );
}

interface ChoiceProps<T extends number> {
  path: string;
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  disabled?: boolean;
  onChange: (value: T) => void;
}

export function Choice<T extends number>({ path, label, value, options, disabled, onChange }: ChoiceProps<T>): JSX.Element {
  return (
    <Field path={path} label={label}>
      <select
        id={path}
        value={value}
        disabled={disabled}
        aria-invalid={errorOf(path) !== undefined}
        aria-describedby={errorId(path)}
        onChange={(event) => {
          const chosen = options.find(([each]) => String(each) === event.currentTarget.value);
          if (chosen !== undefined) onChange(chosen[0]);
          mended(path);
        }}
      >
        {options.map(([each, text]) => (
          <option key={each} value={each}>
            {text}
          </option>
        ))}
      </select>
    </Field>
  );
}
