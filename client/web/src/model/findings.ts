// An impression as findings, a sentence each.
const sentences = (text: string): string[] =>
  text
    .split(/[.;\n]+/)
    .map((part) => part.trim())
    .filter((part) => part !== "");

export function includes(impression: string, term: string): boolean {
  return sentences(impression).some((part) => part.toLowerCase() === term.toLowerCase());
}

/** Adds a finding as a sentence of its own, or takes it out. */
export function toggled(impression: string, term: string): string {
  const parts = sentences(impression);
  const rest = parts.filter((part) => part.toLowerCase() !== term.toLowerCase());
  const next = rest.length < parts.length ? rest : [...parts, term];
  return next.map((part) => `${part}.`).join(" ");
}
