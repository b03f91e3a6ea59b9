/** A transport is one file. */
import { pg } from "./pg.ts"

export const transports = { pg }
export type Name = keyof typeof transports
export const names = Object.keys(transports) as ReadonlyArray<Name>
