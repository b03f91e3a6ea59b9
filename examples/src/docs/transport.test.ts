import * as TransportTest from "@surety/testing/TransportTest"

// A transport of yours: how to put nodes on its store, and cut them off; see TransportTest.Backend.
TransportTest.suite("mine", TransportTest.memory())
