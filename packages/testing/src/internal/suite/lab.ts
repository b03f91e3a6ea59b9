/** What the parts of the harness share. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as History from "../../History.ts"
import type * as TransportTest from "../../TransportTest.ts"
import type { TestNode, TestTopic } from "./model.ts"

export interface Group {
  readonly topic: TestTopic
  readonly group: string
}

export interface Lab {
  readonly history: History.Recorder
  /** Records what a node does; what a process that has ended does is not seen by anybody. */
  readonly record: (node: TestNode, fact: History.Fact) => Effect.Effect<void>
  /** The groups that were consumed, by topic and name. */
  readonly groups: Map<string, Group>
  readonly apply: (node: TestNode) => TransportTest.Node["apply"]
  /** Where what a node runs lives. */
  readonly scopeOf: (node: TestNode) => Scope.Scope
  /** Closes a scope whose finalizers may take time. */
  readonly close: (scope: Scope.Closeable, what: string) => Effect.Effect<void>
}
