/** All systems, in the order of their turns. */
import type { System } from "../system.ts"
import { graphileWorker } from "./graphileWorker.ts"
import { handWritten } from "./handWritten.ts"
import { bare } from "./kafka/bare.ts"
import { kafkajs } from "./kafka/kafkajs.ts"
import { platformatic } from "./kafka/platformatic.ts"
import { suretyKafka } from "./kafka/surety.ts"
import { persistedQueue } from "./persistedQueue.ts"
import { pgBoss } from "./pgBoss.ts"
import { pgTransactionalOutbox } from "./pgTransactionalOutbox.ts"
import { surety } from "./surety.ts"

export const systems: ReadonlyArray<System> = [
  surety,
  pgBoss,
  graphileWorker,
  pgTransactionalOutbox,
  persistedQueue,
  handWritten,
  suretyKafka,
  kafkajs,
  platformatic,
  bare
]
