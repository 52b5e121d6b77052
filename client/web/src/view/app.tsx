// The page: header, form, viewer, history.
import type { JSX } from "preact";
import { announcement } from "../state/announce";
import { active, cancel } from "../state/generation";
import { Banner } from "./banner";
import { Form } from "./form";
import { Header } from "./header";
import { History } from "./history";
import { Viewer } from "./viewer";

export function App(): JSX.Element {
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && active.value !== undefined) cancel();
  };
  return (
    <div class="app" onKeyDown={onKeyDown}>
      <a class="skip" href="#viewer">
        Skip to the picture
      </a>
      <Header />
      <Banner />
      <main class="main">
        <Form />
        <div class="stage" id="viewer" tabIndex={-1}>
          <Viewer />
          <History />
        </div>
      </main>
      <footer class="footer">
        Every picture is synthetic: made by a model, of nobody. <strong>Never for diagnosis.</strong> Files say so too: PNG
        text, DICOM Synthetic Data = YES.
      </footer>
      <p class="visually-hidden" role="status" aria-live="polite">
        {announcement}
      </p>
    </div>
  );
}
