/** GitHub's signature of a delivery: HMAC-SHA256 over the bytes of its body, keyed by the webhook's secret. */
import { createHmac, timingSafeEqual } from "node:crypto"
import { Redacted } from "effect"

export const sign = (secret: Redacted.Redacted, body: Uint8Array): string =>
  `sha256=${createHmac("sha256", Redacted.value(secret)).update(body).digest("hex")}`

/** Takes the same time wherever the signatures differ, so that none can be found by measuring. */
export const verify = (secret: Redacted.Redacted, body: Uint8Array, signature: string | undefined): boolean => {
  const expected = Buffer.from(sign(secret, body))
  const given = Buffer.from(signature ?? "")
  return given.length === expected.length && timingSafeEqual(given, expected)
}
