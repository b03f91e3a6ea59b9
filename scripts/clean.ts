/** Removes what `npm run build` and `npm run check` write. */
import { globSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

for (const path of globSync(["packages/*/dist", "{packages/*,examples,scripts}/*.tsbuildinfo"], { cwd: root })) {
  rmSync(`${root}/${path}`, { recursive: true, force: true })
}
