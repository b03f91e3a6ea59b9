import { assert, describe, it } from "@effect/vitest"
import events from "@octokit/webhooks-examples" with { type: "json" }
import { Option, Schema } from "effect"
import * as Input from "../src/webhooks/deliveries.ts"
import { Delivery, subjectOf } from "../src/webhooks/topics.ts"

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Delivery))
const text = (delivery: Input.Delivery) => new TextDecoder().decode(delivery.body())

describe("the input", () => {
  const deliveries = Input.make(2000)
  const plan = Input.plan(deliveries)

  it("is the same each time, and another one with another seed", () => {
    const facts = (all: ReadonlyArray<Input.Delivery>) => all.slice(0, 400).map((d) => [d.id, d.event, text(d)])
    assert.deepStrictEqual(facts(Input.make(2000)), facts(deliveries))
    assert.notDeepEqual(facts(Input.make(2000, "other")), facts(deliveries))
  })

  it("has distinct delivery ids, which are UUIDs", () => {
    assert.strictEqual(new Set(deliveries.map(({ id }) => id)).size, 2000)
    for (const { id } of deliveries)
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it("has every documented event, about many repositories", () => {
    const documented = new Set((events as unknown as ReadonlyArray<{ name: string }>).map(({ name }) => name))
    assert.strictEqual(documented.size, 58)
    assert.deepStrictEqual(Input.documented, { payloads: 329, events: 58 })
    assert.deepStrictEqual(new Set(deliveries.map(({ event }) => event)), documented)
    assert.isAbove(new Set(deliveries.map(({ subject }) => subject)).size, 200)
  })

  it("is poison exactly where the schema refuses it, and else about what it says", () => {
    for (const delivery of deliveries) {
      const decoded = decode(text(delivery))
      assert.strictEqual(Option.isNone(decoded), delivery.poison, delivery.id)
      if (Option.isSome(decoded)) assert.strictEqual(subjectOf(decoded.value), delivery.subject)
    }
    const poison = deliveries.filter(({ poison }) => poison).length
    assert.isAbove(poison, 5)
    assert.isBelow(poison, 50)
    assert.isTrue(Input.make(2)[1]?.poison)
  })

  it("is sent with a fifth of it twice, half of those at the same moment and the others after the first", () => {
    const times = new Map<string, number>()
    for (const { copies, delivery } of plan) times.set(delivery.id, (times.get(delivery.id) ?? 0) + copies)
    assert.strictEqual(times.size, 2000)
    assert.strictEqual(Array.from(times.values()).filter((n) => n === 2).length, 400)
    assert.isTrue(Array.from(times.values()).every((n) => n === 1 || n === 2))
    assert.strictEqual(plan.filter(({ copies }) => copies === 2).length, 200)
    assert.strictEqual(plan.length, 2200)
  })

  it("tells what must come of it: one effect for each delivery that the schema accepts", () => {
    const { counters, deliveries: byId } = Input.truth(deliveries)
    assert.strictEqual(byId.size, 2000)
    const counted = Array.from(counters.values()).reduce((a, b) => a + b, 0)
    assert.strictEqual(counted, deliveries.filter(({ poison }) => !poison).length)
    const one = deliveries[0]!
    const same = deliveries.filter((d) => !d.poison && d.subject === one.subject && d.event === one.event)
    assert.strictEqual(counters.get(Input.counterKey(one.subject, one.event)), same.length)
  })
})
