// Name, warning, and how the server is.
import type { JSX } from "preact";
import { connection, rates, status } from "../state/connection";

const WORDS = { connecting: "Connecting", connected: "Connected", lost: "Disconnected" };

export function Header(): JSX.Element {
  return (
    <header class="header">
      <h1 class="brand">
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <rect x="1" y="1" width="6" height="6" rx="1" />
          <rect x="9" y="1" width="6" height="6" rx="1" opacity=".3" />
          <rect x="1" y="9" width="6" height="6" rx="1" opacity=".55" />
          <rect x="9" y="9" width="6" height="6" rx="1" opacity=".85" />
        </svg>
        RayGen
      </h1>
      <p class="warning">Synthetic pictures. Not for diagnosis.</p>
      <ServerState />
    </header>
  );
}

function ServerState(): JSX.Element {
  const now = status.value;
  const state = connection.value;
  const closing = state === "connected" && now?.takingWork === false;
  return (
    <dl class="server" aria-label="Server">
      <div class={`connection ${closing ? "closing" : state}`} data-testid="connection">
        <dt class="visually-hidden">Connection</dt>
        <dd>{closing ? "Shutting down" : WORDS[state]}</dd>
      </div>
      <div class={state === "connected" ? "" : "stale"}>
        <dt>Slots</dt>
        <dd data-testid="slots">{now === undefined ? "–" : `${now.slotsInUse}/${now.slots}`}</dd>
      </div>
      <div class={state === "connected" ? "" : "stale"}>
        <dt>Queue</dt>
        <dd data-testid="queue">{now === undefined ? "–" : now.waiting}</dd>
      </div>
      <div class={state === "connected" ? "wide-only" : "wide-only stale"}>
        <dt>Steps/s</dt>
        <dd>{rates.value === undefined ? "–" : rates.value.steps.toFixed(rates.value.steps < 10 ? 1 : 0)}</dd>
      </div>
      <div class={state === "connected" ? "wide-only" : "wide-only stale"}>
        <dt>Pictures/min</dt>
        <dd>{rates.value === undefined ? "–" : rates.value.pictures.toFixed(0)}</dd>
      </div>
    </dl>
  );
}
