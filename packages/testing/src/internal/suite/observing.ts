/** What the store holds, added to the history. */
import * as DeadLetters from "@surety/core/DeadLetters"
import * as Transport from "@surety/core/Transport"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as TransportTest from "../../TransportTest.ts"
import type { Lab } from "./lab.ts"
import { contentOf, decodeMessage, type TestNode, type TestTopic } from "./model.ts"

export const makeObserving = <R>(
  { groups, history }: Pick<Lab, "groups" | "history">,
  backend: TransportTest.Backend<R>,
  services: Context.Context<R>,
  /** A node through which the store can be read. */
  reader: Effect.Effect<TestNode, unknown>
) => {
  const progress = (of: TestTopic, group = "group") =>
    Effect.flatMap(Effect.orDie(reader), (node) =>
      node.run(Effect.flatMap(Transport.Transport, (transport) => transport.progress(of.name, group)))
    )

  const deadLetters = (of: TestTopic, group = "group") =>
    Effect.flatMap(Effect.orDie(reader), (node) =>
      node.run(
        Effect.flatMap(DeadLetters.DeadLetters, ({ list }) => Stream.runCollect(list({ topic: of.name, group })))
      )
    )

  /** What a group keeps in the store beside the log; nothing where the backend cannot tell. */
  const kept = (of: TestTopic, group = "group"): Effect.Effect<Option.Option<TransportTest.Kept>, unknown> =>
    backend.kept === undefined
      ? Effect.succeedNone
      : (Effect.provideContext(Effect.map(backend.kept(of.name, group), Option.some), services) as Effect.Effect<
          Option.Option<TransportTest.Kept>,
          unknown
        >)

  const residue = Effect.fnUntraced(function* (
    of: TestTopic,
    group: string,
    names: ReadonlyArray<keyof TransportTest.Kept>
  ) {
    const found = yield* kept(of, group)
    if (Option.isNone(found)) return
    for (const what of names) {
      yield* history.record({ _tag: "Residue", topic: of.name, group, what, count: found.value[what] })
    }
  })

  const observe = Effect.gen(function* () {
    for (const { group, topic } of groups.values()) {
      for (const letter of yield* deadLetters(topic, group)) {
        const decoded = decodeMessage(new TextDecoder().decode(letter.record.payload))
        yield* history.record({
          _tag: "DeadLetter",
          topic: letter.topic,
          group: letter.group,
          id: letter.record.id,
          partition: letter.record.partition,
          offset: letter.record.offset,
          attempts: letter.attempts,
          content: decoded._tag === "Some" ? contentOf(decoded.value, letter.record.headers) : undefined,
          cause: letter.failure.cause
        })
      }
      for (const { partition, settled } of yield* progress(topic, group)) {
        yield* history.record({ _tag: "Progress", topic: topic.name, group, partition, settled })
      }
      yield* residue(topic, group, ["attempts", "redeliveries", "pending"])
    }
    for (const name of new Set(Array.from(groups.values(), ({ topic }) => topic.name))) {
      for (const { run, step } of yield* Effect.provideContext(backend.effects(name), services)) {
        yield* history.record({ _tag: "Commit", run, step })
      }
    }
  })

  return { progress, deadLetters, kept, residue, observe }
}
