/** The broker of the tests itself: it answers after a crash, and nothing of it outlives its process. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { connect } from "node:net"
import * as os from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import * as TestKafka from "@surety/testing/TestKafka"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { describeKafka } from "./support/kafka.ts"

const isListening = (servers: string) =>
  Effect.callback<boolean>((resume) => {
    const [host, port] = servers.split(":")
    const socket = connect(Number(port), host)
    socket.on("connect", () => resume(Effect.succeed(true)))
    socket.on("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })

const eventually = <E>(condition: Effect.Effect<boolean, E>) =>
  Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced("20 millis") })

describeKafka("TestKafka", () => {
  it.live("answers again after it was killed, and after it was stopped", () =>
    Effect.gen(function* () {
      const kafka = yield* TestKafka.TestKafka
      assert.isTrue(yield* isListening(kafka.bootstrapServers))
      yield* kafka.restart("hard")
      yield* kafka.stop("clean")
      assert.isFalse(yield* isListening(kafka.bootstrapServers))
      yield* kafka.start
      assert.isTrue(yield* isListening(kafka.bootstrapServers))
    }).pipe(Effect.provide(TestKafka.layerEmbedded))
  )

  it.live("is gone with its data when its process is killed", () =>
    Effect.gen(function* () {
      const directory = fs.mkdtempSync(join(os.tmpdir(), "surety-kafka-test-"))
      const holder = spawn(process.execPath, [fileURLToPath(new URL("fixtures/holdKafka.ts", import.meta.url))], {
        env: { ...process.env, TMPDIR: directory },
        stdio: ["ignore", "pipe", "inherit"]
      })
      const [servers] = yield* Effect.promise(() => once(createInterface(holder.stdout), "line"))
      assert.isTrue(yield* isListening(servers))
      assert.strictEqual(fs.readdirSync(directory).length, 1)
      holder.kill("SIGKILL")
      yield* eventually(Effect.map(isListening(servers), (listening) => !listening))
      yield* eventually(Effect.sync(() => fs.readdirSync(directory).length === 0))
      fs.rmdirSync(directory)
    })
  )
})
