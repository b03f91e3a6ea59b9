/** At-most-once: page views are counted, a batch in one statement, or lost. */
import { Consumer } from "@surety/core"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { PageViews } from "./topics.ts"

export const Views = Consumer.makeBatch(PageViews, {
  group: "dashboard",
  maxSize: 500,
  maxWait: "100 millis",
  handler: Effect.fn("Views.count")(function* (messages) {
    const sql = yield* SqlClient.SqlClient
    const paths = messages.map(({ payload }) => payload.path)
    yield* sql`
      INSERT INTO page_view (path, views) SELECT path, count(*) FROM unnest(${paths}::text[]) AS path GROUP BY path ORDER BY path
      ON CONFLICT (path) DO UPDATE SET views = page_view.views + excluded.views`
  })
}).pipe(Consumer.discard("SqlError"))
