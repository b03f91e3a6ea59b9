/** A transport is one file. */
import { kafka } from "./kafka.ts"
import { pg } from "./pg.ts"

export const transports = { pg, kafka }
export type Name = keyof typeof transports
export const names = Object.keys(transports) as ReadonlyArray<Name>
