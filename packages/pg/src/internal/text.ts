/**
 * Text in a form that PostgreSQL stores: its `text` has no NUL. The mapping is
 * injective, so that different ids stay different.
 */
import { createHash } from "node:crypto"

export const escape = (text: string): string =>
  /[\0\\]/.test(text) ? text.replaceAll("\\", "\\\\").replaceAll("\0", "\\0") : text

export const unescape = (text: string): string =>
  text.includes("\\") ? text.replace(/\\(.)/g, (_, char: string) => (char === "0" ? "\0" : char)) : text

/** An entry of an index has at most 2,704 bytes: longer ids are known by their hash, which no escaped text looks like. */
export const inboxKey = (id: string): string =>
  Buffer.byteLength(id) <= 512 ? escape(id) : `\\h${createHash("sha256").update(id).digest("hex")}`
