import { assert, describe, it } from "@effect/vitest"
import * as History from "@surety/testing/History"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { allHaveFired, finds, type Of, publish, register } from "./support/facts.ts"

type RunFields = Partial<History.Run> & { readonly content?: string }

const runOf = (run: number, id: string, fields: RunFields): History.Run => ({
  run,
  node: "n1",
  topic: "t",
  group: "g",
  id,
  key: "k",
  partition: 0,
  offset: Number(/\d+$/.exec(id)?.[0] ?? 1),
  attempt: 1,
  epoch: 1,
  ...fields
})

const start = (run: number, id: string, fields: RunFields = {}): History.Fact => ({
  content: undefined,
  ...runOf(run, id, fields),
  _tag: "Start"
})

const end = (
  run: number,
  id: string,
  outcome: "ok" | "fail" | "interrupt" = "ok",
  fields: RunFields = {}
): History.Fact => ({
  ...runOf(run, id, fields),
  _tag: "End",
  outcome
})

const apply = (run: number, step: number): History.Fact => ({ _tag: "Apply", run, step })
const commit = (run: number, step: number): History.Fact => ({ _tag: "Commit", run, step })
const crash = (node = "n1"): History.Fact => ({ _tag: "Crash", node })

const dead = (id: string, fields: Of<"DeadLetter"> = {}): History.Fact => ({
  _tag: "DeadLetter",
  topic: "t",
  group: "g",
  id,
  partition: 0,
  offset: Number(/\d+$/.exec(id)?.[0] ?? 1),
  attempts: 1,
  content: undefined,
  ...fields
})

const settle = (epoch: number, offset: number, call: number): History.Fact => ({
  _tag: "Settle",
  outcome: "ok",
  node: "n1",
  topic: "t",
  group: "g",
  partition: 0,
  offset,
  epoch,
  call
})

const progress = (settled: number): History.Fact => ({
  _tag: "Progress",
  topic: "t",
  group: "g",
  partition: 0,
  settled
})

/** One run that ends well, with two effects, in the store. */
const handled = (run: number, id: string, fields: RunFields = {}): ReadonlyArray<History.Fact> => [
  start(run, id, fields),
  apply(run, 1),
  apply(run, 2),
  end(run, id, "ok", fields)
]

const committed = (...runs: ReadonlyArray<number>): ReadonlyArray<History.Fact> =>
  runs.flatMap((run) => [commit(run, 1), commit(run, 2)])

const good: ReadonlyArray<History.Fact> = [
  register(),
  register({ topic: "out", group: "observer", guarantee: "at-least-once" }),
  publish("m-1", { content: "one" }),
  publish("m-2", { call: 3 }),
  publish("m-3", { call: 4, key: "other" }),
  publish("never", { outcome: "fail" }),
  start(1, "m-1", { content: "one" }),
  apply(1, 1),
  publish("out-1", { topic: "out", run: 1, key: undefined }),
  apply(1, 2),
  end(1, "m-1"),
  start(2, "m-2"),
  apply(2, 1),
  end(2, "m-2", "fail"),
  start(3, "m-3", { key: "other" }),
  crash(),
  ...handled(4, "m-2", { node: "n2", attempt: 2, epoch: 2 }),
  start(5, "out-1", { topic: "out", group: "observer", key: undefined, node: "n2" }),
  end(5, "out-1", "ok", { topic: "out", group: "observer", key: undefined, node: "n2" }),
  dead("m-3"),
  progress(3),
  ...committed(1, 4)
]

describe("History", () => {
  it("finds nothing in a history in which everything is as it should be", () => {
    assert.strictEqual(History.format(History.check(History.fromFacts(good))), "")
  })

  it("checks every invariant", () => {
    assert.strictEqual(new Set(History.invariants).size, 20)
    const broken = History.fromFacts([register(), publish("m-1"), start(1, "m-2"), end(1, "m-2")])
    assert.deepStrictEqual(
      History.check(broken).map(({ invariant }) => invariant),
      [1, 4, 16]
    )
  })

  it.effect("records events in their order, with the time since the first", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 minute")
      const recorder = History.make()
      const version = recorder.signal.version
      const changed = yield* Effect.forkChild(recorder.signal.changed(version))
      yield* recorder.record(crash())
      yield* TestClock.adjust("2 seconds")
      const call = recorder.next
      yield* recorder.record(publish("m-1", { call }))
      assert.deepStrictEqual(
        recorder.events.map(({ _tag, seq, time }) => [_tag, seq, time]),
        [
          ["Crash", 0, 0],
          ["Publish", 1, 2000]
        ]
      )
      assert.isDefined(changed.pollUnsafe())
    })
  )

  it("renders a history one event a line", () => {
    const lines = History.timeline(History.fromFacts(good)).split("\n")
    assert.strictEqual(lines.length, good.length)
    assert.match(lines[6]!, /start .* "m-1" run 1, attempt 1, epoch 1, on n1/)
  })

  describe("1 no invention", () => {
    it("finds what nobody published, in handlers and in dead letters", () =>
      finds(History.noInvention, [publish("m-1"), start(1, "m-2"), dead("m-3")], /"m-2" .* nobody/, /"m-3" .* nobody/))

    it("does not take another topic's message for this one's", () =>
      finds(History.noInvention, [publish("m-1", { topic: "other" }), start(1, "m-1")], /nobody/))
  })

  describe("2 no aborted read", () => {
    it("finds what was delivered though its publish failed", () =>
      finds(History.noAbortedRead, [publish("m-1", { outcome: "fail" }), start(1, "m-1")], /failed or rolled back/))

    it("finds what was published in a run that failed, crashed, or did not commit", () => {
      const out = (...run: ReadonlyArray<History.Fact>) => [
        start(1, "m-1"),
        publish("out-1", { topic: "out", run: 1 }),
        ...run,
        start(2, "out-1", { topic: "out" })
      ]
      finds(History.noAbortedRead, [publish("m-1"), ...out(end(1, "m-1", "fail"))], /"out-1"/)
      finds(History.noAbortedRead, [publish("m-1"), ...out(apply(1, 1), crash())], /"out-1"/)
      finds(History.noAbortedRead, [publish("m-1"), ...out(apply(1, 1), end(1, "m-1"))], /"out-1"/)
      finds(History.noAbortedRead, [publish("m-1"), ...out(apply(1, 1), end(1, "m-1"), commit(1, 1))])
    })

    it("takes an unknown outcome, or another publish that did succeed, for an explanation", () => {
      finds(History.noAbortedRead, [publish("m-1", { outcome: "info" }), start(1, "m-1")])
      finds(History.noAbortedRead, [publish("m-1", { outcome: "fail" }), publish("m-1"), start(1, "m-1")])
    })
  })

  describe("3 at most once", () => {
    const twice = [publish("m-1"), start(1, "m-1"), crash(), start(2, "m-1", { node: "n2", epoch: 2 })]

    it("finds a second start of a record, in groups of at-most-once topics only", () => {
      finds(History.atMostOnce, [register({ guarantee: "at-most-once" }), ...twice], /"m-1" started 2 times/)
      finds(History.atMostOnce, [register(), ...twice])
    })

    it("counts by record: a message that was published twice may be handled twice", () =>
      finds(History.atMostOnce, [
        register({ guarantee: "at-most-once" }),
        start(1, "m-1"),
        start(2, "m-1", { offset: 2 })
      ]))
  })

  describe("4 no loss", () => {
    const ids = ["m-1", "m-2", "m-3", "m-4"]
    const published = ids.map((id) => publish(id))
    const without = (...lost: ReadonlyArray<string>) => [
      register(),
      ...published,
      ...ids.flatMap((id, run) => (lost.includes(id) ? [] : [start(run, id), end(run, id)]))
    ]

    it("tells a lost prefix, middle and suffix apart, and the loss of everything", () => {
      finds(History.noLoss, without("m-1"), /lost a prefix .*: 1 of 4 .*"m-1"/)
      finds(History.noLoss, without("m-2", "m-3"), /lost the middle .*: 2 of 4 .*"m-2", "m-3"/)
      finds(History.noLoss, without("m-4"), /lost a suffix .*: 1 of 4 .*"m-4"/)
      finds(History.noLoss, without(...ids), /lost everything .*: 4 of 4/)
      finds(History.noLoss, without("m-1", "m-4"), /a prefix/, /a suffix/)
      finds(History.noLoss, without())
    })

    it("does not call handled what failed, or what ended well and did not commit", () => {
      finds(History.noLoss, [register(), publish("m-1"), start(1, "m-1"), end(1, "m-1", "fail")], /everything/)
      finds(History.noLoss, [register(), publish("m-1"), start(1, "m-1"), apply(1, 1), end(1, "m-1")], /everything/)
    })

    it("takes a dead letter for an end", () => finds(History.noLoss, [...without("m-2"), dead("m-2")]))

    it("expects of each group what was published after it was registered, or everything", () => {
      const late = [publish("m-1"), register({ from: "latest" }), publish("m-2", { call: 2 })]
      finds(History.noLoss, late, /everything .*: 1 of 1 .*"m-2"/)
      finds(
        History.noLoss,
        [...late, register({ group: "other" })],
        /group "g"/,
        /group "other" lost everything .* 2 of 2/
      )
    })

    it("expects nothing of at-most-once groups, of failed publishes and of those that rolled back", () => {
      finds(History.noLoss, [register({ guarantee: "at-most-once" }), publish("m-1")])
      finds(History.noLoss, [register(), publish("m-1", { outcome: "fail" }), publish("m-2", { outcome: "info" })])
      finds(History.noLoss, [
        register(),
        start(1, "x", { topic: "from" }),
        publish("m-1", { run: 1 }),
        apply(1, 1),
        crash()
      ])
    })
  })

  describe("5 effectively once", () => {
    it("finds two runs of one message in the store", () =>
      finds(
        History.effectivelyOnce,
        [...handled(1, "m-1"), ...handled(2, "m-1"), ...committed(1, 2)],
        /2 runs of "m-1"/
      ))

    it("finds a mix of two attempts", () =>
      finds(
        History.effectivelyOnce,
        [...handled(1, "m-1"), ...handled(2, "m-1"), commit(1, 1), commit(2, 2)],
        /2 runs of "m-1"/,
        /wrote the effects 1,2 and ended ok left 1 in the store/,
        /left 2 in the store/
      ))

    it("finds a part of a run, an effect twice, and effects of a run that failed or crashed", () => {
      finds(History.effectivelyOnce, [...handled(1, "m-1"), commit(1, 1)], /left 1 in the store/)
      finds(History.effectivelyOnce, [...handled(1, "m-1"), ...committed(1), commit(1, 2)], /left 1,2,2 in the store/)
      finds(History.effectivelyOnce, [start(1, "m-1"), apply(1, 1), end(1, "m-1", "fail"), commit(1, 1)], /ended fail/)
      finds(History.effectivelyOnce, [start(1, "m-1"), apply(1, 1), crash(), commit(1, 1)], /ended in a crash/)
    })

    it("finds effects of no run", () => finds(History.effectivelyOnce, [commit(7, 1)], /run 7 .* no such run/))

    it("lets other groups and other messages be", () =>
      finds(History.effectivelyOnce, [
        ...handled(1, "m-1"),
        ...handled(2, "m-1", { group: "other" }),
        ...handled(3, "m-2"),
        ...committed(1, 2, 3)
      ]))
  })

  describe("6 concurrent duplicates", () => {
    const second = { partition: 1, node: "n2" }

    it("finds two runs that overlapped and both committed", () =>
      finds(
        History.concurrentDuplicates,
        [
          start(1, "m-1"),
          start(2, "m-1", second),
          end(1, "m-1"),
          end(2, "m-1", "ok", second),
          commit(1, 1),
          commit(2, 1)
        ],
        /two runs of "m-1" overlapped/
      ))

    it("asks neither for runs that did not commit, nor for those that did not overlap", () => {
      finds(History.concurrentDuplicates, [start(1, "m-1"), start(2, "m-1", second), end(1, "m-1"), commit(1, 1)])
      finds(History.concurrentDuplicates, [...handled(1, "m-1"), ...handled(2, "m-1"), ...committed(1, 2)])
    })
  })

  describe("7 atomic unit of work", () => {
    const unit = [
      register(),
      register({ topic: "out", group: "observer" }),
      start(1, "m-1"),
      apply(1, 1),
      publish("out-1", { topic: "out", run: 1 }),
      end(1, "m-1")
    ]
    const read = start(2, "out-1", { topic: "out", group: "observer" })

    it("finds effects without the message, and the message without effects", () => {
      finds(History.atomicUnit, [...unit, commit(1, 1)], /effect 1 took effect, but not message "out-1"/)
      finds(History.atomicUnit, [...unit, read], /message "out-1" took effect, but not effect 1/)
    })

    it("finds one of two effects, and one of two messages", () => {
      finds(History.atomicUnit, [start(1, "m-1"), apply(1, 1), apply(1, 2), commit(1, 2)], /effect 2 .* not effect 1/)
      finds(
        History.atomicUnit,
        [...unit.slice(0, 5), publish("out-2", { topic: "out", run: 1 }), end(1, "m-1"), commit(1, 1), read],
        /but not message "out-2"/
      )
    })

    it("finds effects of a message that is not settled", () => {
      finds(History.atomicUnit, [...unit, commit(1, 1), read, progress(0)], /but not its settlement/)
      finds(History.atomicUnit, [...unit, commit(1, 1), read, progress(1)])
    })

    it("finds nothing where all is present, or all absent, or nobody looked", () => {
      finds(History.atomicUnit, [...unit, commit(1, 1), read])
      finds(History.atomicUnit, unit)
      finds(History.atomicUnit, [...unit.filter((fact) => fact._tag !== "Register"), commit(1, 1)])
    })

    it("lets an at-most-once message be lost, but not precede its commit", () => {
      const lossy = unit.map((fact) =>
        fact._tag === "Register" && fact.topic === "out" ? { ...fact, guarantee: "at-most-once" as const } : fact
      )
      finds(History.atomicUnit, [...lossy, commit(1, 1)])
      finds(History.atomicUnit, [...lossy, read], /message "out-1" took effect/)
    })
  })

  describe("9 no skipped record", () => {
    const read = (run: number, offset: number, group = "g") => start(run, `m-${offset}`, { offset, group })

    it("finds a record that another group has read and this one passed over", () =>
      finds(
        History.noSkippedRecord,
        [
          register(),
          register({ group: "other" }),
          read(1, 1),
          read(2, 3),
          read(3, 1, "other"),
          read(4, 2, "other"),
          read(5, 3, "other")
        ],
        /group "g" read past 0\/2/
      ))

    it("finds none where the group has not come so far, or reads from the latest", () => {
      const others = [read(3, 1, "other"), read(4, 2, "other"), read(5, 3, "other")]
      finds(History.noSkippedRecord, [register(), register({ group: "other" }), read(1, 1), ...others])
      finds(History.noSkippedRecord, [
        register({ from: "latest" }),
        register({ group: "other" }),
        read(1, 3),
        ...others
      ])
    })

    it("lets a duplicate of a settled message be passed over", () =>
      finds(History.noSkippedRecord, [
        register(),
        register({ group: "other" }),
        start(1, "m", { offset: 1 }),
        read(2, 3),
        start(3, "m", { offset: 1, group: "other" }),
        start(4, "m", { offset: 2, group: "other" }),
        read(5, 3, "other")
      ]))
  })

  describe("10 fencing", () => {
    const successor = start(2, "m-1", { epoch: 2, node: "n2" })

    it("finds a run that committed after a later epoch had begun", () =>
      finds(
        History.fencing,
        [start(1, "m-1"), apply(1, 1), successor, end(1, "m-1"), commit(1, 1)],
        /under epoch 1 committed after epoch 2/
      ))

    it("finds a settlement by an earlier epoch", () => {
      finds(History.fencing, [successor, settle(1, 5, 1)], /epoch 1 settled partition 0 up to 5 after epoch 2/)
      finds(History.fencing, [settle(2, 5, 0), settle(1, 6, 1)], /epoch 1 settled/)
    })

    it("asks neither for a settlement that was refused, nor for one that was under way before", () => {
      finds(History.fencing, [successor, { ...settle(1, 5, 1), outcome: "fail" } as History.Fact])
      finds(History.fencing, [successor, settle(1, 5, 0)])
      finds(History.fencing, [start(1, "m-1"), apply(1, 1), end(1, "m-1"), successor, commit(1, 1)])
      finds(History.fencing, [start(3, "m-1", { epoch: 2, partition: 1 }), settle(1, 5, 1)])
    })
  })

  describe("11 order within a key", () => {
    const published = [publish("m-1"), publish("m-2", { call: 1 })]

    it("finds a message that started before the earlier one of its key", () =>
      finds(
        History.orderWithinKey,
        [...published, start(1, "m-2"), end(1, "m-2"), start(2, "m-1"), end(2, "m-1")],
        /"m-2" started .* before the earlier "m-1" of key "k"/
      ))

    it("finds one that started while the earlier one ran, or waited for a retry", () => {
      finds(
        History.orderWithinKey,
        [...published, start(1, "m-1"), start(2, "m-2"), end(1, "m-1")],
        /before the earlier/
      )
      finds(
        History.orderWithinKey,
        [
          ...published,
          start(1, "m-1"),
          end(1, "m-1", "fail"),
          start(2, "m-2"),
          end(2, "m-2"),
          start(3, "m-1"),
          end(3, "m-1")
        ],
        /before the earlier/
      )
    })

    it("finds effects that were written in another order than that of publishing", () =>
      finds(
        History.orderWithinKey,
        [...published, ...handled(1, "m-1"), ...handled(2, "m-2"), ...committed(2, 1)],
        /effects of "m-2" were written before those of the earlier "m-1"/
      ))

    it("orders what one batch published", () =>
      finds(
        History.orderWithinKey,
        [
          publish("m-1", { call: 0 }),
          publish("m-2", { call: 0, index: 1 }),
          start(1, "m-2"),
          end(1, "m-2"),
          start(2, "m-1")
        ],
        /before the earlier "m-1"/
      ))

    it("lets other keys, concurrent publishes and redeliveries be", () => {
      const reversed = [start(1, "m-2"), end(1, "m-2"), start(2, "m-1"), end(2, "m-1")]
      finds(History.orderWithinKey, [publish("m-1", { key: "a" }), publish("m-2", { key: "b", call: 1 }), ...reversed])
      finds(History.orderWithinKey, [publish("m-1", { call: 0 }), publish("m-2", { call: 0 }), ...reversed])
      finds(History.orderWithinKey, [
        ...published,
        start(1, "m-1"),
        end(1, "m-1"),
        start(2, "m-2"),
        crash(),
        start(3, "m-1", { node: "n2" }),
        end(3, "m-1", "ok", { node: "n2" }),
        start(4, "m-2", { node: "n2" })
      ])
    })

    it("goes on after a dead letter, and after a crash", () => {
      finds(History.orderWithinKey, [
        ...published,
        start(1, "m-1"),
        end(1, "m-1", "fail"),
        start(2, "m-2"),
        dead("m-1")
      ])
      finds(
        History.orderWithinKey,
        [...published, start(1, "m-1"), crash(), start(2, "m-2", { node: "n2" }), start(3, "m-1", { node: "n2" })],
        /"m-2" started/
      )
    })
  })

  describe("13 attempts", () => {
    const one = [register(), start(1, "m-1"), end(1, "m-1", "fail")]

    it("finds an attempt that a failure, or a crash, did not count", () => {
      finds(History.attempts, [...one, start(2, "m-1")], /attempt 1 of "m-1" failed, and was followed by attempt 1/)
      finds(
        History.attempts,
        [register(), start(1, "m-1"), crash(), start(2, "m-1", { node: "n2" })],
        /followed by attempt 1/
      )
    })

    it("finds attempts that shrink", () =>
      finds(
        History.attempts,
        [
          register({ batchSize: 9 }),
          ...one.slice(1),
          start(2, "m-1", { attempt: 2 }),
          end(2, "m-1", "fail"),
          start(3, "m-1")
        ],
        /attempt 2 of "m-1" was followed by attempt 1/
      ))

    it("finds attempts that nobody made: a first one that is not 1, a shutdown that counts", () => {
      finds(History.attempts, [register(), start(1, "m-1", { attempt: 2 })], /called attempt 2, of at most 1/)
      finds(History.attempts, [register(), start(1, "m-1", { attempt: 0 })], /called attempt 0/)
      finds(
        History.attempts,
        [register(), start(1, "m-1"), end(1, "m-1", "interrupt"), start(2, "m-1", { attempt: 2 })],
        /called attempt 2, of at most 1/
      )
    })

    it("lets a batch repeat its innocent messages, and a crash count what it had claimed", () => {
      finds(History.attempts, [register({ batchSize: 9 }), ...one.slice(1), start(2, "m-1")])
      finds(History.attempts, [register(), crash(), start(1, "m-1", { attempt: 2, node: "n2" })])
      finds(History.attempts, [
        ...one,
        start(2, "m-1", { attempt: 2 }),
        end(2, "m-1", "interrupt"),
        start(3, "m-1", { attempt: 2 })
      ])
    })

    it("does not hold its successor's attempts against a stale holder", () =>
      finds(History.attempts, [
        register(),
        { _tag: "Disconnect", node: "n1" },
        start(1, "m-1", { attempt: 2, epoch: 2, node: "n2" }),
        start(2, "m-1", { attempt: 1, epoch: 1 })
      ]))
  })

  describe("18 context", () => {
    it("finds content that changed on the way, to a handler and to a dead letter", () =>
      finds(
        History.context,
        [publish("m-1", { content: "a" }), start(1, "m-1", { content: "b" }), dead("m-1", { content: "c" })],
        /"m-1" is not what was published/,
        /"m-1" is not what was published/
      ))

    it("takes any of the publishes of an id for its source", () =>
      finds(History.context, [
        publish("m-1", { content: "a" }),
        publish("m-1", { content: "b" }),
        start(1, "m-1", { content: "b" }),
        start(2, "m-1")
      ]))
  })
})

describe("each invariant", () => {
  it("has found something in a history above", (context) => allHaveFired(context, "the others"))
})
