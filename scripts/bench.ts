/** `npm run bench`: the benchmark, with the libraries that it measures. */
import { runWithPeers } from "./withPeers.ts"

runWithPeers("packages/bench")
