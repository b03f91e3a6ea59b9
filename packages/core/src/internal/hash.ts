const encoder = new TextEncoder()

/** FNV-1a over UTF-8: which partition a key belongs to. Part of the stored format; it never changes. */
export const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (const byte of encoder.encode(text)) h = Math.imul(h ^ byte, 0x01000193)
  return h >>> 0
}
