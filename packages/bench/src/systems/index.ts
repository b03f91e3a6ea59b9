/** All systems, in the order of their turns. */
import type { System } from "../system.ts"
import { handWritten } from "./handWritten.ts"
import { surety } from "./surety.ts"

export const systems: ReadonlyArray<System> = [surety, handWritten]
