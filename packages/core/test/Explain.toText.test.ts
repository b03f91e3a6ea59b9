import { stripVTControlCharacters } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Explain, Surety, Topic } from "@surety/core"
import { Effect, Layer, Schedule, Schema } from "effect"
import { Broken, type Busy } from "./support.ts"

const Orders = Topic.make("orders", {
  schema: Schema.Struct({ id: Schema.String }),
  guarantee: "exactly-once",
  id: ({ id }) => id,
  partitions: 1
})
const Views = Topic.make("views", { schema: Schema.String, guarantee: "at-most-once" })

const handler = (): Effect.Effect<void, Busy | Broken> => Effect.fail(new Broken())
const app = Consumer.make(Orders, { group: "shop", concurrency: 4, handler }).pipe(
  Consumer.discard("Broken"),
  Consumer.retry(Schedule.exponential("1 second").pipe(Schedule.jittered, Schedule.upTo({ times: 7 }))),
  Consumer.orDeadLetter,
  Consumer.layer,
  Layer.provideMerge(Surety.layerMemory)
)
const explained = Surety.explain(app, { publishes: [Views] })

const shown = `orders: at-most-once, below the declared exactly-once
  made of       Transport.layerMemory, ExactlyOnce.layer, Inbox.layerMemory,
                  Outbox.layerMemory
  transport     memory, 1 partition, records of up to 1 MiB
                durable: no: lost when the process ends
                order: per partition, in publish order
  published     not by this app, as far as it says; id of the payload, no key
                each try waits 5s for its acknowledgement; repeated after
                  50ms, 100ms, 200ms, 400ms, 800ms, … (18 times, 1m 1s 350ms in
                  all, jittered)
  group shop    4 handlers at once, each for up to 5m; a new group starts at
                  the earliest message
                Broken: discarded as handled
                other failures: repeated after 1s, 2s, 4s, 8s, 16s, … (7
                  times, 2m 7s in all, jittered), then dead letter
                defects and timeouts: repeated after 100ms, 200ms, 400ms (3
                  times, 700ms in all, jittered), then dead letter
                a process that ends: handled again once its lease of 15s is
                  over; dead letter after more than 3 times
                retries due later than 10s are stored and redelivered
                a transport error that repeating cannot mend stops the group
                  in this process
  kept          messages for ever, settled ids for ever
  weakest link  Transport.layerMemory: loss when the process ends, and
                  everything in its memory with it
                raised by PgTransport.layer of @surety/pg
  possible      everything is lost with the process
                a handler runs again after a rollback
                effects outside its transaction (a mail, an HTTP call) may be
                  repeated: publish a message for them
                settled ids are forgotten with the process
                what a handler changes in its own variables is not rolled back

views: at-most-once, as declared
  promise       a handler starts 0 or 1 times per message: progress is stored
                  before it runs
  made of       Transport.layerMemory, AtMostOnce.layer
  transport     memory, 8 partitions, records of up to 1 MiB
                durable: no: lost when the process ends
                order: per partition, in publish order
  published     by this app; id generated, no key
                tried once
  groups        none in this app
  kept          messages for ever
  weakest link  Transport.layerMemory: loss when the process ends, and
                  everything in its memory with it
                raised by PgTransport.layer of @surety/pg
  possible      everything is lost with the process
                a message that a transaction publishes is lost where its
                  process ends just after the commit`

describe("toText", () => {
  it.effect("says it all in 80 columns", () =>
    Effect.gen(function* () {
      assert.strictEqual(Explain.toText(yield* explained, { width: 80 }), shown)
    })
  )

  it.effect("keeps to the width", () =>
    Effect.gen(function* () {
      const explanation = yield* explained
      for (const width of [60, 80, 100, 140]) {
        const widths = Explain.toText(explanation, { width })
          .split("\n")
          .map((line) => line.length)
        assert.isAtMost(Math.max(...widths), width)
        assert.isAtLeast(Math.max(...widths), width - 15)
      }
      const standard = Explain.toText(explanation).split("\n")
      assert.isAtMost(Math.max(...standard.map((line) => line.length)), 96)
    })
  )

  it.effect("has colours when asked, and the same text", () =>
    Effect.gen(function* () {
      const explanation = yield* explained
      const plain = Explain.toText(explanation)
      const colored = Explain.toText(explanation, { colors: true })
      assert.notInclude(plain, "\x1b")
      assert.include(colored, "\x1b[1morders\x1b[22m: \x1b[31mat-most-once, below the declared exactly-once\x1b[39m")
      assert.include(colored, "\x1b[1mviews\x1b[22m: \x1b[32mat-most-once, as declared\x1b[39m")
      assert.strictEqual(stripVTControlCharacters(colored), plain)
    })
  )

  it.effect("gives a long name a line of its own", () =>
    Effect.gen(function* () {
      const group = "a-group-of-thirty-characters-x"
      const layer = Consumer.layer(Consumer.make(Views, { group, handler: () => Effect.void }))
      const explanation = yield* Surety.explain(layer.pipe(Layer.provide(Surety.layerMemory)))
      const lines = Explain.toText(explanation).split("\n")
      const index = lines.indexOf(`  group ${group}`)
      assert.match(lines[index + 1] ?? "", /^ {24}1 handler at once/)
    })
  )

  it("has a sentence for an app without topics", () => {
    assert.match(Explain.toText({ topics: [] }), /no topic/)
  })

  it.effect("shows for how long things are kept, where that is declared", () =>
    Effect.gen(function* () {
      const [topic] = (yield* explained).topics
      const shown = (retention: Explain.TopicExplanation["retention"]) =>
        /^ {2}kept +(.*)$/m.exec(Explain.toText({ topics: [{ ...topic!, retention }] }))?.[1]
      assert.strictEqual(
        shown({ messages: { millis: 3_600_000 }, settledIds: "forever" }),
        "messages for 1h, settled ids for ever"
      )
      assert.strictEqual(
        shown({ messages: null, settledIds: null }),
        "messages for a time that the transport does not declare"
      )
    })
  )

  it.effect("shows of every schedule what is known", () =>
    Effect.gen(function* () {
      const [topic] = (yield* explained).topics
      const shown = (retries: Partial<Explain.Retries>) => {
        const defects = { delays: [], times: null, total: null, jittered: false, dependsOn: null, ...retries }
        const groups = [{ ...topic!.groups[0]!, defects }]
        return /defects and timeouts: (.*), then dead letter/.exec(
          Explain.toText({ topics: [{ ...topic!, groups }] }, { width: 200 })
        )?.[1]
      }
      assert.strictEqual(shown({ dependsOn: "failure" }), "repeated as the failure says")
      assert.strictEqual(shown({ dependsOn: "time" }), "repeated at times of the calendar")
      assert.strictEqual(shown({ dependsOn: "unknown" }), "repeated by a schedule that does not tell")
      assert.strictEqual(shown({ times: 0, total: 0 }), "repeated not at all")
      assert.strictEqual(shown({ delays: [1000], times: 1, total: 1000 }), "repeated after 1s (1 time, 1s in all)")
      assert.strictEqual(
        shown({ delays: [1000, 1000], jittered: true }),
        "repeated after 1s, 1s, … (not known to end, jittered)"
      )
    })
  )
})
