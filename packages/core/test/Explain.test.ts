import { assert, describe, it } from "@effect/vitest"
import {
  type Acks,
  type AtLeastOnce,
  type AtMostOnce,
  Channel,
  ConsumeError,
  Consumer,
  type Description,
  type ExactlyOnce,
  Explain,
  Guarantee,
  Inbox,
  MemoryStore,
  Outbox,
  Producer,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import { Context, Deferred, Effect, Layer, Schedule, Schema } from "effect"
import { layerNode, layerOver, Note, note, notes } from "./support.ts"

/** The in-memory services, as if they were durable. */
const durable = layerOver(({ characteristics }) => ({ characteristics: { ...characteristics, gaps: [] } }))

const ignoring = <const G extends Guarantee.Name>(guarantee: G) =>
  Consumer.layer(Consumer.make(notes(guarantee), { group: "readers", handler: () => Effect.void }))

/** One topic of each guarantee, consumed. */
const named = <const G extends Guarantee.Name>(guarantee: G) => {
  const topic = Topic.make(guarantee, { schema: Note, guarantee, id: ({ id }) => id })
  return Consumer.layer(Consumer.make(topic, { group: "readers", handler: () => Effect.void }))
}
const each = Layer.mergeAll(named("at-most-once"), named("at-least-once"), named("exactly-once"))

/** What a check found to be missing. */
const unmetOf = <A, E, R>(checked: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(checked), (error) => {
    assert.instanceOf(error, Explain.GuaranteeNotMet)
    return error
  })

const topicOf = ({ topics }: Explain.Explanation): Explain.TopicExplanation => {
  assert.strictEqual(topics.length, 1)
  return topics[0]!
}

describe("the derived guarantee", () => {
  const links = ({ topics }: Explain.Explanation) =>
    topics.map(({ declared, derived, weakestLink }) => [
      declared,
      derived,
      weakestLink && [weakestLink.link, weakestLink.allows, weakestLink.raisedBy]
    ])

  it.effect("is what is declared, over a transport that loses nothing", () =>
    Effect.gen(function* () {
      const explanation = yield* Surety.explain(each.pipe(Layer.provide(durable)))
      assert.deepStrictEqual(links(explanation), [
        [
          "at-least-once",
          "at-least-once",
          [
            "AtLeastOnce.layer",
            "repetition",
            'guarantee: "exactly-once" on the topic, and ExactlyOnce.layer over an Inbox and an Outbox'
          ]
        ],
        [
          "at-most-once",
          "at-most-once",
          ["AtMostOnce.layer", "loss", 'guarantee: "at-least-once" on the topic, and AtLeastOnce.layer']
        ],
        ["exactly-once", "exactly-once", null]
      ])
    })
  )

  it.effect("is less in memory, which is lost with the process", () =>
    Effect.gen(function* () {
      const explanation = yield* Surety.explain(each.pipe(Layer.provide(Surety.layerMemory)))
      const memory = ["Transport.layerMemory", "loss", "PgTransport.layer of @surety/pg"]
      assert.deepStrictEqual(links(explanation), [
        ["at-least-once", "best-effort", memory],
        ["at-most-once", "at-most-once", memory],
        ["exactly-once", "at-most-once", memory]
      ])
    })
  )

  it.effect("goes by the gaps of every part, the inbox and the outbox included", () =>
    Effect.gen(function* () {
      const gap: Description.Gap = { allows: "repetition", when: "it forgets", raisedBy: "a better memory" }
      const forgetful = <S extends { readonly description: Description.Part }>(real: S) => ({
        description: { ...real.description, gaps: [gap] }
      })
      for (const options of [{ inbox: forgetful }, { outbox: forgetful }]) {
        const layer = layerOver(
          ({ characteristics }) => ({ characteristics: { ...characteristics, gaps: [] } }),
          options
        )
        const { derived, weakestLink } = topicOf(
          yield* Surety.explain(ignoring("exactly-once").pipe(Layer.provide(layer)))
        )
        assert.strictEqual(derived, "at-least-once")
        assert.deepInclude(weakestLink, { allows: "repetition", when: "when it forgets", raisedBy: "a better memory" })
      }
    })
  )

  it.effect("names what is assumed and not checked as the weakest link, where nothing gives way", () =>
    Effect.gen(function* () {
      const assumption: Description.Assumption = {
        holds: "the disk keeps what it stored",
        known: "not checked",
        otherwise: "loss",
        raisedBy: "a second disk"
      }
      const layer = (inbox: Description.Assumption["known"]) =>
        layerOver(
          ({ characteristics }) => ({
            characteristics: { ...characteristics, gaps: [], assumptions: [assumption] }
          }),
          {
            inbox: ({ description }) => ({
              description: { ...description, assumptions: [{ ...assumption, known: inbox }] }
            })
          }
        )
      const explained = (known: Description.Assumption["known"]) =>
        Effect.map(Surety.explain(ignoring("exactly-once").pipe(Layer.provide(layer(known)))), topicOf)

      const unchecked = yield* explained("not checked")
      assert.strictEqual(unchecked.derived, "exactly-once")
      assert.deepStrictEqual(unchecked.weakestLink, {
        link: "Transport.layerMemory",
        allows: "loss",
        when: "unless the disk keeps what it stored",
        assumed: true,
        raisedBy: "a second disk"
      })
      // The link that knows most about it has the word.
      const checked = yield* explained("read")
      assert.isNull(checked.weakestLink)
      assert.deepStrictEqual(checked.assumptions, [{ link: "Inbox.layerMemory", ...assumption, known: "read" }])
      // One whose failure would change nothing is no assumption.
      const atMostOnce = topicOf(yield* Surety.explain(ignoring("at-most-once").pipe(Layer.provide(layer("read")))))
      assert.deepStrictEqual(atMostOnce.assumptions, [])
    })
  )

  it.effect("assumes that nothing is published again after an inbox has forgotten it", () =>
    Effect.gen(function* () {
      const keeping = (retention: MemoryStore.Options["retention"]) =>
        durable.pipe(Layer.provide(Layer.succeed(MemoryStore.CurrentOptions, { lease: "20 seconds", retention })))
      const explained = (retention: MemoryStore.Options["retention"]) =>
        Effect.map(Surety.explain(Layer.provide(ignoring("exactly-once"), keeping(retention))), topicOf)

      const { derived, retention, transport, weakestLink } = yield* explained({ log: "1 day", inbox: "7 days" })
      assert.deepStrictEqual(retention, { messages: { millis: 86_400_000 }, settledIds: { millis: 604_800_000 } })
      assert.strictEqual(transport.lease, 20_000)
      assert.strictEqual(derived, "exactly-once")
      assert.deepStrictEqual(weakestLink, {
        link: "Inbox.layerMemory",
        allows: "repetition",
        when: "unless the app publishes no message again once it is settled for 7d",
        assumed: true,
        raisedBy: "an inbox that remembers forever"
      })
      const forever = yield* explained({ log: "1 day" })
      assert.deepStrictEqual(forever.retention, { messages: { millis: 86_400_000 }, settledIds: "forever" })
      assert.isNull(forever.weakestLink)
      // As when the app starts.
      assert.instanceOf(yield* Effect.flip(explained({ inbox: "7 days" })), Guarantee.CompositionError)
    })
  )

  it.effect("shows no retention that the transport does not declare", () =>
    Effect.gen(function* () {
      const layer = layerOver(() => ({ bounds: undefined }))
      const { retention, transport } = topicOf(
        yield* Surety.explain(ignoring("at-least-once").pipe(Layer.provide(layer)))
      )
      assert.deepStrictEqual(retention, { messages: null, settledIds: null })
      assert.isNull(transport.lease)
    })
  )

  it.effect("of exactly-once assumes that a publish that is repeated has the same id, where the payload has none", () =>
    Effect.gen(function* () {
      const topic = Topic.make("a", { schema: Schema.String, guarantee: "exactly-once" })
      const layer = Consumer.layer(Consumer.make(topic, { group: "readers", handler: () => Effect.void }))
      const { derived, producer, weakestLink } = topicOf(yield* Surety.explain(layer.pipe(Layer.provide(durable))))
      assert.strictEqual(derived, "exactly-once")
      assert.strictEqual(producer.id, "generated")
      assert.deepInclude(weakestLink, { link: "Topic.make", allows: "repetition", assumed: true })
    })
  )
})

describe("explaining", () => {
  it.effect("joins no group, publishes nothing and handles nothing", () =>
    Effect.gen(function* () {
      const calls: Array<string> = []
      const Log = notes("at-least-once")
      const app = Layer.mergeAll(
        Consumer.layer(
          Consumer.make(Log, { group: "readers", handler: () => Effect.sync(() => calls.push("handled")) })
        ),
        Layer.effectDiscard(Producer.publish(Log, note("a"))),
        Layer.effectDiscard(Producer.publish(Topic.make("b", { schema: Note, guarantee: "exactly-once" }), note("b")))
      )
      const recording = layerOver((real) => ({
        declare: (topic) =>
          Effect.andThen(
            Effect.sync(() => calls.push("declared")),
            real.declare(topic)
          ),
        publish: (topic, records) =>
          Effect.andThen(
            Effect.sync(() => calls.push("published")),
            real.publish(topic, records)
          ),
        subscribe: (options) =>
          Effect.andThen(
            Effect.sync(() => calls.push("subscribed")),
            real.subscribe(options)
          )
      }))
      const { topics } = yield* Surety.explain(app.pipe(Layer.provide(recording)))
      assert.deepStrictEqual(
        topics.map(({ groups, name, producer }) => [name, producer.here, groups.length]),
        [
          ["b", true, 0],
          ["notes", true, 1]
        ]
      )
      assert.deepStrictEqual(calls, [])
    })
  )

  it.effect("has no effect on the same layers when they run", () =>
    Effect.gen(function* () {
      const handled = yield* Deferred.make<string>()
      const Log = notes("exactly-once")
      const consumer = Consumer.make(Log, { group: "readers", handler: ({ id }) => Deferred.succeed(handled, id) })
      const app = Consumer.layer(consumer).pipe(Layer.provideMerge(Surety.layerMemory))
      yield* Surety.explain(app)
      yield* Effect.gen(function* () {
        // In the memo map of the app that runs: what was built for it is not explained.
        assert.strictEqual((yield* Surety.explain(app)).topics.length, 1)
        yield* Producer.publish(Log, note("a"))
        assert.strictEqual(yield* Deferred.await(handled), "a")
      }).pipe(Effect.provide(app))
    })
  )

  it.effect("takes a guarantee from around it, and describes what really runs", () =>
    Effect.gen(function* () {
      const { weakestLink } = topicOf(yield* Surety.explain(ignoring("exactly-once")))
      assert.strictEqual(weakestLink?.link, "Transport.layerMemory")
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("fails as the app does, where it cannot be built", () =>
    Effect.gen(function* () {
      const parts = Layer.mergeAll(
        Transport.layerMemory,
        Inbox.layerMemory.pipe(Layer.fresh),
        Outbox.layerMemory.pipe(Layer.fresh)
      )
      const apart = ignoring("exactly-once").pipe(Layer.provide(Surety.layer), Layer.provide(parts))
      assert.instanceOf(yield* Effect.flip(Surety.explain(apart)), Guarantee.CompositionError)

      const nameless = Consumer.layer(Consumer.make(notes("at-most-once"), { group: "", handler: () => Effect.void }))
      const error = yield* Effect.flip(Surety.explain(nameless.pipe(Layer.provide(Surety.layerMemory))))
      assert.instanceOf(error, ConsumeError)
    })
  )

  it.effect("lets an app look at its consumer", () =>
    Effect.gen(function* () {
      const app = Layer.effectDiscard(
        Effect.gen(function* () {
          const { pause, resume, status } = yield* Consumer.start(
            Consumer.make(notes("at-least-once"), { group: "readers", handler: () => Effect.void })
          )
          yield* pause
          yield* resume
          assert.deepStrictEqual(yield* status, { state: "starting", partitions: [], inFlight: 0 })
        })
      )
      topicOf(yield* Surety.explain(app.pipe(Layer.provide(Surety.layerMemory))))
    })
  )

  it.effect("gives data that its schema describes, and JSON keeps", () =>
    Effect.gen(function* () {
      const forever = Consumer.make(notes("at-least-once"), {
        group: "readers",
        handler: () => Effect.void,
        handlerTimeout: Infinity,
        defectRetry: Schedule.forever
      })
      const app = Layer.mergeAll(each, Consumer.layer(forever)).pipe(Layer.provide(Surety.layerMemory))
      const explanation = yield* Surety.explain(app)
      const json: unknown = JSON.parse(JSON.stringify(explanation))
      assert.deepStrictEqual(json, explanation)
      assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(Explain.Explanation)(json), explanation)
      assert.deepStrictEqual(yield* Schema.encodeEffect(Explain.Explanation)(explanation), explanation)
    })
  )
})

describe("a topic that is only published", () => {
  const Sent = Topic.make("sent", { schema: Note, guarantee: "exactly-once", key: ({ key }) => key })

  it.effect("is named, and its guarantee taken from the app, or from around it", () =>
    Effect.gen(function* () {
      const expected = { here: true, id: "generated", key: "payload", ackTimeout: 5000 } as const
      const inside = topicOf(yield* Surety.explain(Surety.layerMemory, { publishes: [Sent] }))
      assert.deepInclude(inside.producer, expected)
      assert.deepStrictEqual(inside.groups, [])
      const around = yield* Surety.explain(Layer.empty, { publishes: [Sent] }).pipe(Effect.provide(Surety.layerMemory))
      assert.deepInclude(topicOf(around).producer, expected)
    })
  )

  it.effect("is named by a layer of the app, which does nothing when it runs", () =>
    Effect.gen(function* () {
      const app = Explain.publishing(Sent, notes("at-most-once")).pipe(Layer.provideMerge(Surety.layerMemory))
      const { topics } = yield* Surety.explain(app)
      assert.deepStrictEqual(
        topics.map(({ name, producer }) => [name, producer.here, producer.retries === null]),
        [
          ["notes", true, true],
          ["sent", true, false]
        ]
      )
      const transport = yield* Effect.scoped(Layer.build(app)).pipe(
        Effect.map((context) => Context.get(context, Transport.Transport))
      )
      assert.strictEqual((yield* Effect.flip(transport.progress("sent", "readers"))).reason._tag, "InvalidState")
    })
  )

  it.effect("is one topic with the consumers of it", () =>
    Effect.gen(function* () {
      const app = ignoring("exactly-once").pipe(Layer.provideMerge(Surety.layerMemory))
      const { groups, producer } = topicOf(yield* Surety.explain(app, { publishes: [notes("exactly-once")] }))
      assert.deepStrictEqual([producer.here, groups.length], [true, 1])
    })
  )
})

describe("channels", () => {
  class Audit extends Channel.make("Audit") {}
  const reading = <C = Channel.Default>(channel?: Channel.ChannelClass<C>) =>
    Consumer.layer(
      Consumer.make(Topic.make("log", { schema: Schema.String, guarantee: "at-least-once", channel }), {
        group: "readers",
        handler: () => Effect.void
      })
    )
  const app = Layer.mergeAll(
    reading().pipe(Layer.provide(Surety.layerMemory)),
    reading(Audit).pipe(Layer.provide(durable.pipe(Channel.on(Audit))))
  )

  it.effect("are topics of their own, each over its own layers", () =>
    Effect.gen(function* () {
      const { topics } = yield* Surety.explain(app)
      assert.deepStrictEqual(
        topics.map(({ channel, derived, name }) => [name, channel, derived]),
        [
          ["log", null, "best-effort"],
          ["log", "Audit", "at-least-once"]
        ]
      )
    })
  )

  it.effect("are checked by name@channel", () =>
    Effect.gen(function* () {
      yield* Surety.check(app, { "log@Audit": "at-least-once" })
      const { unmet } = yield* unmetOf(Surety.check(app))
      assert.deepStrictEqual(
        unmet.map(({ topic }) => topic),
        ["log"]
      )
    })
  )

  it.effect("of one store are told apart", () =>
    Effect.gen(function* () {
      const shared = layerNode({ alive: true })
      const { topics } = yield* Surety.explain(
        Layer.mergeAll(
          reading().pipe(Layer.provide(shared)),
          reading(Audit).pipe(Layer.provide(shared.pipe(Channel.on(Audit))))
        ).pipe(Layer.provide(MemoryStore.layer))
      )
      assert.deepStrictEqual(
        topics.map(({ channel, groups }) => [channel, groups.length]),
        [
          [null, 1],
          ["Audit", 1]
        ]
      )
    })
  )

  it.effect("and stores are told apart, one name or not", () =>
    Effect.gen(function* () {
      const two = Layer.mergeAll(
        reading().pipe(Layer.provide(Surety.layerMemory)),
        reading().pipe(Layer.provide(Layer.fresh(Surety.layerMemory))),
        reading().pipe(Layer.provide(Surety.layerMemory))
      )
      const { topics } = yield* Surety.explain(two)
      assert.deepStrictEqual(topics.map(({ groups }) => groups.length).sort(), [1, 2])
    })
  )
})

describe("check", () => {
  const over = <E>(
    layer: Layer.Layer<
      AtMostOnce | AtLeastOnce | ExactlyOnce | Transport.Transport | Acks.Acks | Inbox.Inbox | Outbox.Outbox,
      E
    >
  ) => each.pipe(Layer.provide(layer))

  it.effect("passes where every topic has what it declares", () =>
    Effect.gen(function* () {
      const { topics } = yield* Surety.check(over(durable))
      assert.strictEqual(topics.length, 3)
    })
  )

  it.effect("names each topic that has not, with its weakest link and what would raise it", () =>
    Effect.gen(function* () {
      const error = yield* unmetOf(Surety.check(over(Surety.layerMemory)))
      const weakestLink = {
        link: "Transport.layerMemory",
        allows: "loss",
        when: "when the process ends, and everything in its memory with it",
        assumed: false,
        raisedBy: "PgTransport.layer of @surety/pg"
      }
      assert.deepStrictEqual(error.unmet, [
        { topic: "at-least-once", required: "at-least-once", derived: "best-effort", weakestLink },
        { topic: "exactly-once", required: "exactly-once", derived: "at-most-once", weakestLink }
      ] as ReadonlyArray<Explain.Unmet>)
      assert.strictEqual(
        error.message.split("\n")[1],
        '"exactly-once" is to be exactly-once, but is at-most-once: Transport.layerMemory: loss when the process ends,' +
          " and everything in its memory with it; raised by PgTransport.layer of @surety/pg"
      )
    })
  )

  it.effect("goes by what a guarantee excludes", () =>
    Effect.gen(function* () {
      const names = ["at-most-once", "at-least-once", "exactly-once"] as const
      const met: Array<string> = []
      for (const topic of names) {
        for (const required of names) {
          const met_ = yield* Effect.match(Surety.check(over(durable), { [topic]: required }), {
            onFailure: () => false,
            onSuccess: () => true
          })
          if (met_) met.push(`${topic} is ${required}`)
        }
      }
      assert.deepStrictEqual(met, [
        "at-most-once is at-most-once",
        "at-least-once is at-least-once",
        "exactly-once is at-most-once",
        "exactly-once is at-least-once",
        "exactly-once is exactly-once"
      ])
    })
  )

  it.effect("names the link that stands in the way of what is required, not another one", () =>
    Effect.gen(function* () {
      const { unmet } = yield* unmetOf(Surety.check(over(Surety.layerMemory), { "at-least-once": "at-most-once" }))
      assert.deepInclude(unmet[0]?.weakestLink, { link: "AtLeastOnce.layer", allows: "repetition" })
    })
  )

  it.effect("looks at every declaration of a name", () =>
    Effect.gen(function* () {
      const twice = Layer.mergeAll(ignoring("exactly-once"), ignoring("at-least-once")).pipe(Layer.provide(durable))
      yield* Surety.check(twice, { notes: "at-least-once" })
      const { unmet } = yield* unmetOf(Surety.check(twice, { notes: "exactly-once" }))
      assert.deepStrictEqual(
        unmet.map(({ derived }) => derived),
        ["at-least-once"]
      )
    })
  )

  it.effect("fails for a topic that the app does not have", () =>
    Effect.gen(function* () {
      const error = yield* unmetOf(Surety.check(over(durable), { paymnets: "at-most-once" }))
      assert.deepStrictEqual(error.unmet, [
        { topic: "paymnets", required: "at-most-once", derived: null, weakestLink: null }
      ])
      assert.match(error.message, /no such topic/)
      yield* Surety.check(Surety.layerMemory, { notes: "at-most-once" }, { publishes: [notes("at-most-once")] })
    })
  )
})
