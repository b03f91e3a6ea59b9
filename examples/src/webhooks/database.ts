/** The database of a run, as each of its processes connects to it. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Layer, type Redacted } from "effect"

/**
 * Every guarantee over one database, and its client. With a lease as short as
 * this one, the partitions of a killed worker go on after two seconds.
 */
export const layer = (url: Redacted.Redacted) =>
  SuretyPg.layerWith({ lease: "2 seconds" }).pipe(
    Layer.provideMerge(PgClient.layer({ url, applicationName: "surety webhooks" }))
  )
