import { assert, describe, it } from "@effect/vitest"
import { Channel, Topic } from "@surety/core"
import { Schema } from "effect"

describe("Topic", () => {
  it("has defaults for all that may be left out", () => {
    const topic = Topic.make("notes", { schema: Schema.String, guarantee: "at-least-once" })
    assert.deepInclude(topic, {
      name: "notes",
      guarantee: "at-least-once",
      partitions: 8,
      id: undefined,
      key: undefined
    })
    assert.strictEqual(topic.channel, Channel.Default)
    assert.deepStrictEqual(Topic.declaration(topic), { name: "notes", partitions: 8 })
  })

  it("is a pure declaration, also with a name that no transport would take", () => {
    assert.strictEqual(Topic.make("", { schema: Schema.String, guarantee: "at-most-once", partitions: -1 }).name, "")
  })

  it("can be piped", () => {
    const topic = Topic.make("notes", { schema: Schema.String, guarantee: "at-least-once" })
    assert.strictEqual(
      topic.pipe(({ name }) => name),
      "notes"
    )
  })
})
