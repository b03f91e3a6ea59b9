import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { text } from "node:stream/consumers"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { run } from "./support/program.ts"

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string }
}
interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: ReadonlyArray<Attribute>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  readonly status: { readonly code: number }
}

/** As OTLP numbers them. */
const kinds = { producer: 4, consumer: 5 }
const failed = 2

/** An OTLP receiver: what was sent to each path. */
const receiver = Effect.acquireRelease(
  Effect.promise(async () => {
    const bodies: Array<{ readonly path: string; readonly body: string }> = []
    const server = createServer(async (request, response) => {
      bodies.push({ path: request.url!, body: await text(request) })
      response.setHeader("content-type", "application/json").end("{}")
    })
    await once(server.listen(0, "127.0.0.1"), "listening")
    return { bodies, server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  }),
  ({ server }) => Effect.sync(() => server.close())
)

const attribute = (span: Span, name: string) => {
  const { intValue, stringValue } = span.attributes.find(({ key }) => key === name)?.value ?? {}
  return stringValue ?? (intValue === undefined ? undefined : Number(intValue))
}

it.live("npm run example tracing exports a publish, and the attempts that are linked to it", () =>
  Effect.gen(function* () {
    const { bodies, url } = yield* receiver
    const { code, stderr, stdout } = yield* run(["scripts/example.ts", "tracing"], { OTEL_EXPORTER_OTLP_ENDPOINT: url })
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
    assert.strictEqual(stdout.at(-1), `telemetry goes to ${url}`)

    const sent = (path: string) => bodies.filter((request) => request.path === path).map(({ body }) => JSON.parse(body))
    const spans: ReadonlyArray<Span> = sent("/v1/traces").flatMap(({ resourceSpans }) =>
      resourceSpans.flatMap((resource: any) => resource.scopeSpans.flatMap((scope: any) => scope.spans))
    )
    const named = (name: string) => spans.filter((span) => span.name === name)
    const [request] = named("POST /orders")
    const [publish, ...others] = named("publish orders")
    assert.deepStrictEqual(others, [])
    assert.strictEqual(publish?.kind, kinds.producer)
    assert.strictEqual(publish?.parentSpanId, request?.spanId)

    const attempts = named("process orders")
    assert.deepStrictEqual(
      attempts.map((span) => attribute(span, "surety.attempt")),
      [1, 2]
    )
    for (const attempt of attempts) {
      assert.strictEqual(attempt.kind, kinds.consumer)
      assert.isUndefined(attempt.parentSpanId)
      assert.notStrictEqual(attempt.traceId, publish?.traceId)
      assert.deepStrictEqual(
        attempt.links.map(({ spanId, traceId }) => ({ spanId, traceId })),
        [{ spanId: publish!.spanId, traceId: publish!.traceId }]
      )
      assert.strictEqual(attribute(attempt, "messaging.message.id"), "order-1")
      assert.strictEqual(attribute(attempt, "messaging.consumer.group.name"), "warehouse")
    }
    assert.deepStrictEqual(
      attempts.map(({ status }) => status.code === failed),
      [true, false]
    )
    assert.deepStrictEqual(
      named("Warehouse.pick").map(({ parentSpanId }) => parentSpanId),
      attempts.map(({ spanId }) => spanId)
    )

    const metrics = JSON.stringify(sent("/v1/metrics"))
    for (const name of ["surety.published", "surety.handled", "surety.failed_attempts", "surety.retries"]) {
      assert.include(metrics, `"${name}"`)
    }
    assert.notInclude(bodies.map(({ body }) => body).join("\n"), "Private")
  }).pipe(Effect.scoped)
)
