/** The examples that need a Kafka. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { describeKafka } from "../../packages/kafka/test/support/kafka.ts"
import { run } from "./support/program.ts"

const example = (name: string) => run(["scripts/example.ts", name])

describeKafka("npm run example, with Kafka", () => {
  it.live("kafka-exactly-once", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* example("kafka-exactly-once")
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.deepStrictEqual(stdout, [
        "order-0: 1200",
        "order-1: 300",
        "order-2: 4500",
        "order-3: 700",
        "order-4: 90",
        "failed after publishing: once"
      ])
    })
  )

  it.live("outbox-to-kafka", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* example("outbox-to-kafka")
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.deepStrictEqual(stdout, [
        "order-1: placed",
        "order-2: rolled back, out of stock",
        "order-3: placed",
        "order-4: placed",
        "at Kafka: order-1, order-3, order-4"
      ])
    })
  )

  it.live(
    "two-ledgers balance, whoever is killed in between",
    () =>
      Effect.gen(function* () {
        const { code, stdout } = yield* example("two-ledgers")
        assert.strictEqual(code, 0)
        assert.deepStrictEqual(stdout, [
          "transfers    200, of which 20 were rolled back",
          "workers      2, of which 3 were killed in the middle and replaced",
          "credited     180, 0 of them twice",
          "first bank   9500",
          "second bank  10500",
          "together     20000",
          "Every transfer was credited once, and the ledgers balance."
        ])
      }),
    300_000
  )
})

describe("npm run example, without Kafka", () => {
  it.live("says what is missing, and how to get it", () =>
    Effect.gen(function* () {
      const env = { KAFKA_BOOTSTRAP_SERVERS: undefined, XDG_CACHE_HOME: "/nowhere" }
      const { code, stderr, stdout } = yield* run(["scripts/example.ts", "kafka-exactly-once"], env)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: [] })
      assert.strictEqual(stderr.length, 1)
      assert.match(stderr[0]!, /^No Kafka on this machine: .*; run `npm run kafka:setup` once\.$/)
    })
  )
})
