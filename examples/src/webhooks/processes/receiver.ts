/** The receiver process: serves HTTP until its parent is gone. */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Config, Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as Receiver from "../receiver.ts"
import { databaseLayer, runChild } from "./child.ts"
import { tell } from "./lines.ts"

const listening = Layer.effectDiscard(
  Effect.flatMap(HttpServer.HttpServer, ({ address }) =>
    "port" in address ? tell({ _tag: "Listening", port: address.port }) : Effect.void
  )
)

const routes = Layer.unwrap(Effect.map(Config.Redacted("WEBHOOK_SECRET"), Receiver.layer))

runChild(
  HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.merge(listening),
    Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
    Layer.provide(databaseLayer),
    Layer.launch
  )
)
