/** All parts of the in-memory backend, over one store. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Acks from "../../Acks.ts"
import { DeadLetters } from "../../DeadLetters.ts"
import { DelayedDelivery } from "../../DelayedDelivery.ts"
import { Inbox } from "../../Inbox.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import { Outbox } from "../../Outbox.ts"
import { Transport } from "../../Transport.ts"
import * as deadLetters from "./deadLetters.ts"
import * as delayed from "./delayed.ts"
import * as inbox from "./inbox.ts"
import { site } from "./log.ts"
import * as outbox from "./outbox.ts"
import * as transport from "./transport.ts"

export const make: Effect.Effect<
  Context.Context<Transport | Acks.Acks | DelayedDelivery | Inbox | Outbox | DeadLetters>,
  never,
  MemoryStore | Scope.Scope
> = Effect.flatMap(site, (here) =>
  Effect.map(delayed.at(here), (delayedDelivery) =>
    Context.make(Transport, transport.at(here)).pipe(
      Context.add(Acks.Acks, Acks.make({ level: "all" })),
      Context.add(DelayedDelivery, delayedDelivery),
      Context.add(Inbox, inbox.at(here)),
      Context.add(Outbox, outbox.at(here)),
      Context.add(DeadLetters, deadLetters.at(here))
    )
  )
)
