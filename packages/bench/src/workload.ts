/** What is measured of each system: one file each in `workloads`. */
import { type Effect, Schema, type Scope } from "effect"
import type { Database, Opened, Role } from "./system.ts"

export type Unit = "messages/s" | "ms" | "MB" | "rows" | "×"

/** What ours has to reach, in the same run. */
export interface Bar {
  readonly of: "peer" | "limit" | "itself"
  readonly at: "least" | "most"
  readonly value: number
}

/** A line of the table. */
export interface Row {
  /** Added to the workload's name, where it has several rows. */
  readonly suffix?: string
  readonly title: string
  readonly unit: Unit
  /** Whether more is better, or less. */
  readonly better: "more" | "less"
  readonly bars: ReadonlyArray<Bar>
}

export interface Size {
  readonly messages: number
  readonly quick: boolean
}

export interface Workload {
  readonly name: string
  readonly rows: ReadonlyArray<Row>
  /** What it needs. Default: PostgreSQL. */
  readonly on?: "kafka"
  /** Left out of `--quick` unless it is named, because it takes long. */
  readonly long?: boolean
  /** Left out unless it is named. */
  readonly named?: boolean
  /** Measured once, without a warm-up, because it is long enough for that. */
  readonly once?: boolean
  /** Only for systems of this role. */
  readonly of?: Role
  /** How one run of it is made by a system, or `undefined` when the system has no means for it. */
  readonly run: (opened: Opened, database: Database, size: Size) => Run | undefined
}

export interface Run {
  readonly settings: string
  /** A value for each row. */
  readonly measure: Effect.Effect<ReadonlyArray<number>, unknown, Scope.Scope>
}

/** Messages were lost, or applied twice, or in the wrong order. */
export class Wrong extends Schema.TaggedError<Wrong>()("Wrong", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/** What ours has to reach, whatever the others do. */
export const itself = (at: Bar["at"], value: number): Bar => ({ of: "itself", at, value })

export const rowName = (workload: Workload, row: Row): string =>
  row.suffix === undefined ? workload.name : `${workload.name}-${row.suffix}`
