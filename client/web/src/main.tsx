// Starts the page.
import { render } from "preact";
import { watch } from "./state/connection";
import "./style/index.css";
import { App } from "./view/app";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
watch();
