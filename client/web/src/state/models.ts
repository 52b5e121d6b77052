// The models that the server has, and the one that is chosen.
import { computed, signal } from "@preact/signals";
import { type Model, Model_State } from "../gen/raygen/v1/model_service_pb";
import { withDefaults } from "../model/settings";
import { models as service } from "../wire/client";
import { failureOf } from "../wire/failure";
import { settings } from "./form";
import { keyNeeded } from "./key-needed";

export const models = signal<readonly Model[]>([]);

export const model = computed(() => models.value.find((each) => each.name === settings.value.model));

/** Asks for all models; keeps what the form holds where its model is still there. */
export async function loadModels(): Promise<void> {
  const found: Model[] = [];
  try {
    let pageToken = "";
    do {
      const page = await service.listModels({ pageToken });
      found.push(...page.models);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  } catch (thrown) {
    const failure = failureOf(thrown);
    if (failure.kind === "key") keyNeeded.value = failure.message;
    return; // Whether the server is there at all is the connection's to tell.
  }
  models.value = found;
  keyNeeded.value = undefined;
  if (model.value === undefined) {
    const ready = found.filter((each) => each.state === Model_State.READY);
    // The server's own default: the model named so, otherwise the first; the newest version comes last.
    const first = ready.findLast((each) => each.name.startsWith("models/default/")) ?? ready[0];
    if (first !== undefined) settings.value = withDefaults(settings.value, first);
  }
}

export function chooseModel(name: string): void {
  const chosen = models.value.find((each) => each.name === name);
  if (chosen !== undefined) settings.value = withDefaults(settings.value, chosen);
}
