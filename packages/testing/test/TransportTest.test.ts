import * as TransportTest from "@surety/testing/TransportTest"

TransportTest.suite("memory", TransportTest.memory())
