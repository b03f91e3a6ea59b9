/** One connection of a client to the server, over which somebody watches, and decides. */
import * as net from "node:net"
import { Duplex } from "node:stream"
import { applicationOf, endsAnswer, type Frame, Frames, isAnswered, isPart, Statements } from "./protocol.ts"

export interface Message {
  readonly application: string
  readonly type: string
  readonly statement: string | undefined
}

/** What is done to a message. `CutAfter`: the server gets it, and the client gets no answer. */
export type Action =
  | { readonly _tag: "Pass" }
  | { readonly _tag: "CutBefore" }
  | { readonly _tag: "CutAfter" }
  | { readonly _tag: "Withhold"; readonly millis: number }
  | { readonly _tag: "Delay"; readonly millis: number }
  | { readonly _tag: "Split"; readonly pieces: ReadonlyArray<number> }

export const pass: Action = { _tag: "Pass" }

export interface Watcher {
  /** What is announced: each message, or each statement, as a whole. */
  readonly unit: "message" | "statement"
  /** Before the server gets it. */
  readonly sends: (message: Message) => Action
  /** Once the server has answered it, before the client gets the end of the answer. Whether the connection goes on. */
  readonly answered: (message: Message) => boolean
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** The host and the port of a PostgreSQL URL. */
export const addressOf = (url: string): Address => {
  const { hostname, port } = new URL(url)
  return { host: hostname.replace(/^\[(.*)\]$/, "$1"), port: port === "" ? 5432 : Number(port) }
}

/** Pieces of these sizes, over and over; without sizes, the whole. */
const cutUp = (bytes: Buffer, sizes: ReadonlyArray<number> | undefined): ReadonlyArray<Buffer> => {
  if (sizes === undefined) return [bytes]
  const pieces: Array<Buffer> = []
  for (let from = 0, i = 0; from < bytes.length; i++) {
    const size = Math.max(1, sizes[i % sizes.length]!)
    pieces.push(bytes.subarray(from, from + size))
    from += size
  }
  return pieces
}

/** Connections that hear and say nothing, and what they do once they can again. */
export interface Silence {
  readonly meant: (connection: Connection, application: string) => boolean
  readonly waiting: Array<() => void>
}

/** The connections of a client. */
export class Connections {
  /** Those that are open, and their applications. */
  readonly open = new Map<Connection, string>()
  readonly silences = new Set<Silence>()
}

export class Connection extends Duplex {
  readonly #watcher: Watcher
  readonly #connections: Connections
  readonly #socket: net.Socket
  readonly #sent = new Frames("client")
  readonly #received = new Frames("server")
  readonly #statements = new Statements()
  /** Messages that the server has yet to answer, and whether the answer is to be lost. */
  readonly #asked: Array<{ readonly message: Message; readonly lost: boolean }> = []
  /** The beginning of a statement, until its end is there. */
  #begun: Array<Buffer> = []
  /** Answers that are kept back. */
  #kept: Array<Buffer> | undefined
  #pieces: ReadonlyArray<number> | undefined
  #application: string | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(address: Address, watcher: Watcher, connections: Connections) {
    super()
    this.#watcher = watcher
    this.#connections = connections
    connections.open.set(this, "")
    this.#socket = net.connect({ ...address, noDelay: true })
    this.#socket.on("data", (chunk: Buffer) => this.#unlessSilent(() => this.#receive(chunk)))
    this.#socket.on("end", () => this.#unlessSilent(() => this.push(null)))
    this.#socket.on("error", (error) => this.destroy(error))
  }

  /** Ends it for both sides: the server gets what was sent before. */
  cut(last: ReadonlyArray<Buffer> = []): void {
    this.#socket.end(Buffer.concat(last))
    this.destroy(new Error("the wire was cut"))
  }

  /** Does it now, or once it is not silent any more. */
  #unlessSilent(act: () => void): void {
    for (const { meant, waiting } of this.#connections.silences) {
      if (meant(this, this.#application ?? "")) {
        waiting.push(act)
        return
      }
    }
    act()
  }

  #send(bytes: Buffer): void {
    for (const piece of cutUp(bytes, this.#pieces)) this.#socket.write(piece)
  }

  #deliver(bytes: Buffer): void {
    if (this.#kept !== undefined) this.#kept.push(bytes)
    else for (const piece of cutUp(bytes, this.#pieces)) this.push(piece)
  }

  /** Keeps answers back for some time. */
  #keep(millis: number, then: (kept: ReadonlyArray<Buffer>) => void): void {
    const kept: Array<Buffer> = []
    this.#kept = kept
    this.#timer = setTimeout(() => {
      this.#kept = undefined
      then(kept)
    }, millis)
  }

  #describe(frame: Frame): Message {
    if (this.#application === undefined) {
      this.#application = applicationOf(frame)
      this.#connections.open.set(this, this.#application)
    }
    return { application: this.#application, type: frame.type, statement: this.#statements.of(frame) }
  }

  /** Adds a message to what the server gets. Whether the connection goes on after it. */
  #take(frame: Frame, out: Array<Buffer>): boolean {
    const message = this.#describe(frame)
    this.#begun.push(frame.bytes)
    if (this.#watcher.unit === "statement" && isPart(frame.type)) return true
    const action = this.#watcher.sends(message)
    if (action._tag === "CutBefore") return false
    out.push(...this.#begun)
    this.#begun = []
    const lost = action._tag === "CutAfter"
    if (isAnswered(frame.type)) this.#asked.push({ message, lost })
    else if (lost) return false
    if (action._tag === "Withhold") this.#keep(action.millis, () => this.cut())
    if (action._tag === "Delay") {
      this.#keep(action.millis, (kept) => {
        for (const bytes of kept) this.#deliver(bytes)
      })
    }
    if (action._tag === "Split") this.#pieces = action.pieces
    return true
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    let frames: ReadonlyArray<Frame>
    try {
      frames = this.#sent.push(chunk)
    } catch (error) {
      done(error as Error)
      return
    }
    const out: Array<Buffer> = []
    const goesOn = frames.every((frame) => this.#take(frame, out))
    this.#unlessSilent(() => (goesOn ? this.#send(Buffer.concat(out)) : this.cut(out)))
    done()
  }

  #receive(chunk: Buffer): void {
    for (const { bytes, type } of this.#received.push(chunk)) {
      const [asked] = this.#asked
      const ends = asked !== undefined && endsAnswer(asked.message.type, type)
      if (ends) {
        this.#asked.shift()
        if (!this.#watcher.answered(asked.message) || asked.lost) {
          this.cut()
          return
        }
      }
      if (asked?.lost !== true) this.#deliver(bytes)
    }
  }

  override _read(): void {}

  override _final(done: () => void): void {
    this.#unlessSilent(() => this.#socket.end())
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#connections.open.delete(this)
    this.#socket.removeAllListeners("data").resume()
    this.#unlessSilent(() => {
      if (!this.#socket.writableEnded) this.#socket.destroy()
    })
    done(error)
  }
}
