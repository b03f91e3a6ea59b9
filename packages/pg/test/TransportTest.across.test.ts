import * as TransportTest from "@surety/testing/TransportTest"
import { acrossBackend } from "./support/acrossBackend.ts"

TransportTest.suite("postgres, through another system", acrossBackend, { timeout: "90 seconds" })
