import * as TransportTest from "@surety/testing/TransportTest"
import { backend } from "./support/backend.ts"

TransportTest.suite("postgres", backend, { timeout: "60 seconds" })
