/** PostgreSQL's protocol, as far as faults need to know it: where messages begin and end, and which statement is meant. */

export interface Frame {
  /** Its letter; none for the first one of a connection. */
  readonly type: string
  readonly bytes: Buffer
}

const startupCode = 196_608
const sslCode = 80_877_103

/** A connection that cannot be read: its messages are encrypted. */
export class Encrypted extends Error {
  constructor() {
    super("messages on an encrypted connection cannot be told apart: give the client `ssl: false`")
  }
}

/** Takes a stream of bytes apart. What the server sends has no message without a letter. */
export class Frames {
  #pending: Buffer = Buffer.alloc(0)
  #started: boolean

  constructor(side: "client" | "server") {
    this.#started = side === "server"
  }

  push(chunk: Buffer): ReadonlyArray<Frame> {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    const frames: Array<Frame> = []
    for (let frame = this.#next(); frame !== undefined; frame = this.#next()) frames.push(frame)
    return frames
  }

  #next(): Frame | undefined {
    const header = this.#started ? 1 : 0
    if (this.#pending.length < header + 4) return undefined
    const length = header + this.#pending.readUInt32BE(header)
    if (this.#pending.length < length) return undefined
    const bytes = this.#pending.subarray(0, length)
    this.#pending = this.#pending.subarray(length)
    if (this.#started) return { type: String.fromCharCode(bytes[0]!), bytes }
    const code = bytes.readUInt32BE(4)
    if (code === sslCode) throw new Encrypted()
    this.#started = code === startupCode
    return { type: "", bytes }
  }
}

/** The NUL-terminated texts of a message, from a position on. */
const texts = (bytes: Buffer, from: number): ReadonlyArray<string> => bytes.toString("utf8", from).split("\0")

/** The name that a connection's first message gives. None where it asks for a cancellation. */
export const applicationOf = ({ bytes }: Frame): string => {
  if (bytes.readUInt32BE(4) !== startupCode) return ""
  const fields = texts(bytes, 8)
  const at = fields.indexOf("application_name")
  return at === -1 ? "" : fields[at + 1]!
}

/** Follows which statement the client's messages are about. */
export class Statements {
  readonly #prepared = new Map<string, string>()
  #current: string | undefined

  /** The statement that a message belongs to. */
  of({ bytes, type }: Frame): string | undefined {
    if (type === "Q") this.#current = texts(bytes, 5)[0]
    if (type === "P") {
      const [name, text] = texts(bytes, 5)
      this.#prepared.set(name!, text!)
      this.#current = text
    }
    if (type === "B") {
      const [, name] = texts(bytes, 5)
      this.#current = this.#prepared.get(name!)
    }
    return "QPBDES".includes(type) && type !== "" ? this.#current : undefined
  }
}

/** Whether the server answers a message at once. Others wait for the next of these. */
export const isAnswered = (type: string): boolean => type === "" || "SQp".includes(type)

/** Whether a message of the server's ends its answer to one of this type. */
export const endsAnswer = (asked: string, answer: string): boolean =>
  asked === "" || asked === "p" ? "RE".includes(answer) : answer === "Z"

/** Whether a message only prepares what the next one asks for. */
export const isPart = (type: string): boolean => type !== "" && "PBDEC".includes(type)
