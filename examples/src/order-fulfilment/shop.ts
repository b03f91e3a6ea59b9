/** What goes into the topics, and when all of it is done. */
import { Producer } from "@surety/core"
import { Effect, Schedule } from "effect"
import { untilSettled } from "../support/untilSettled.ts"
import * as Input from "./input.ts"
import { Orders, PageViews, Shipments } from "./topics.ts"

/** Publishes a part of the input: each order twice, as a customer does who is not sure. */
export const publish = Effect.fn("Shop.publish")(function* (part: number, parts: number) {
  const partOf = <A>(all: ReadonlyArray<A>) => all.filter((_, index) => index % parts === part)
  yield* Producer.publishAll(Orders, partOf(Input.orders))
  yield* Producer.publishAll(Orders, partOf(Input.orders))
  yield* Producer.publishAll(PageViews, partOf(Input.views))
})

/** Nothing is left to do. Until the workers have joined, there are no groups to ask for. */
export const settled = Effect.all([
  untilSettled(Orders, "stock"),
  untilSettled(Shipments, "carrier"),
  untilSettled(PageViews, "dashboard")
]).pipe(Effect.retry(Schedule.spaced("50 millis")))
