// What stands in the way: no connection, a full server, a missing key, a failure; and what to do about it.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { connection } from "../state/connection";
import { fieldErrors } from "../state/form";
import { active, cancel, reached, repeat, retryNow, shown, waiting } from "../state/generation";
import { keyNeeded } from "../state/key-needed";
import { loadModels } from "../state/models";
import { apiKey, setApiKey } from "../wire/key";

export function Banner(): JSX.Element | null {
  if (connection.value === "lost") {
    return (
      <div class="banner bad" role="alert" data-testid="disconnected">
        <p>
          <strong>The server is not answering.</strong> {lostRun()} Trying to reconnect…
        </p>
      </div>
    );
  }
  if (keyNeeded.value !== undefined) return <KeyBanner message={keyNeeded.value} />;
  if (waiting.value !== undefined) return <BusyBanner {...waiting.value} />;
  const other = fieldErrors.value.get("");
  if (other !== undefined) {
    return (
      <div class="banner bad" role="alert">
        <p>
          <strong>The server refused.</strong> {other}
        </p>
      </div>
    );
  }
  return <RunBanner />;
}

function lostRun(): string {
  const run = shown.value;
  return run?.failure?.kind === "disconnected" ? reached(run) : "";
}

function RunBanner(): JSX.Element | null {
  const run = shown.value;
  const failure = run?.failure;
  if (run === undefined || failure === undefined || active.value !== undefined) return null;
  const what =
    failure.kind === "disconnected"
      ? `${failure.message} ${reached(run)} The server is there again.`
      : failure.kind === "cancelled"
        ? `Stopped. ${reached(run)}`
        : failure.message;
  return (
    <div class={failure.kind === "cancelled" ? "banner" : "banner bad"} data-testid="run-banner">
      <p>{what}</p>
      <button type="button" onClick={() => repeat(run)}>
        Run it again, same seed
      </button>
    </div>
  );
}

function BusyBanner({ until, message }: { until: number; message: string }): JSX.Element {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 200);
    return () => clearInterval(timer);
  }, [until]);
  const seconds = Math.max(0, Math.ceil((until - now) / 1000));
  return (
    <div class="banner" role="alert" data-testid="busy">
      <p>
        <strong>The server is busy.</strong> {message} <span aria-hidden="true">Next try in {seconds} s.</span>
      </p>
      <button type="button" onClick={retryNow}>
        Try now
      </button>
      <button type="button" onClick={cancel}>
        Give up
      </button>
    </div>
  );
}

function KeyBanner({ message }: { message: string }): JSX.Element {
  const [key, setKey] = useState(apiKey.value);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    setApiKey(key);
    keyNeeded.value = undefined;
    void loadModels();
  };
  return (
    <form class="banner" onSubmit={submit} data-testid="key">
      <p>
        <strong>This server wants an API key.</strong> {message}
      </p>
      <label class="key">
        <span class="visually-hidden">API key</span>
        <input
          type="password"
          autocomplete="off"
          placeholder="API key"
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}
