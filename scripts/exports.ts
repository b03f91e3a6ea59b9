/**
 * Points the `exports` of the package in the current directory to `src` (as in
 * this repository, where Node runs the TypeScript itself) or to `dist` (as
 * published). `npm pack` and `npm publish` run it before and after.
 */
import { readFileSync, writeFileSync } from "node:fs"

const to = process.argv[2]
const edits: Record<string, (target: string) => string> = {
  dist: (target) => target.replace(/^\.\/src\/(.*)\.ts$/, "./dist/$1.js"),
  src: (target) => target.replace(/^\.\/dist\/(.*)\.js$/, "./src/$1.ts")
}
const edit = to === undefined ? undefined : edits[to]
if (edit === undefined) {
  console.error("Usage: node scripts/exports.ts dist|src, from a package's directory")
  process.exit(1)
}

const manifest = JSON.parse(readFileSync("package.json", "utf8"))
for (const [name, target] of Object.entries(manifest.exports)) {
  if (typeof target === "string") manifest.exports[name] = edit(target)
}
writeFileSync("package.json", `${JSON.stringify(manifest, null, 2)}\n`)
