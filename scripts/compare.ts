/** `npm run compare`: programs on Surety, and on other libraries. */
import { runWithPeers } from "./withPeers.ts"

runWithPeers("comparisons")
