/** Seeds that have failed once, by scenario. They are run first, and what they found is beside them. */
export const corpus: Readonly<Record<string, ReadonlyArray<number>>> = {
  // A payment of an interrupted publish held the horizon back when its process was stopped in order (the simulation's own).
  "exactly-once": [748],
  // A stale holder of a frozen process began a handler after its successor had gone on (the check of order).
  // A run that was interrupted before it was known how it ends had no end (the recorder).
  "at-most-once": [6, 72, 88, 719],
  // A dead letter that comes again after a crash is counted anew; a claim is counted twice when its reply is lost (checks).
  "dead-letters": [55, 216],
  // The count of an attempt that came after a settlement had passed it stayed in the store.
  retries: [45],
  // A message that is redriven while its dead letter's settlement is not answered yet stayed parked.
  // One that was redriven between the look at its settled id and the commit was settled without being handled: lost.
  // A holder whose step was held up had counted an attempt, and lost its lease before the handler began (the check).
  // A second redrive, which was interrupted, hid the first one (the check).
  redrive: [727, 877, 1261, 1847, 3058],
  // A transaction whose connection was lost while its inbox row waited counted as an attempt of the message (in memory).
  relay: [6478],
  // A partition that was released while the store could not be reached stayed leased for ever.
  "order-per-key": [54, 296],
  // Two publishes that begin at once were taken for one batch (the recorder).
  batches: [1, 30],
  // What an undecodable message had as attempts before it was found so was forgotten in its dead letter.
  "schema-upgrade": [2, 48],
  transfers: [2]
}
