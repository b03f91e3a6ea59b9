/**
 * The connections of a client, one of which can be cut before or after any
 * message that the client sends; those of an application can fall silent.
 */
import * as net from "node:net"
import { Duplex } from "node:stream"

export type When = "before" | "after"

interface Message {
  readonly bytes: Buffer
  readonly type: string | undefined
}

/** A message that the server answers at once. Others wait for the next of these. */
const answered = (type: string | undefined): boolean => type === undefined || "SQp".includes(type)

export class Wire {
  readonly #host: string
  readonly #port: number
  readonly #streams = new Map<Duplex, string>()
  #armed: { readonly app: string; readonly at: number; readonly when: When } | undefined
  #messages: Array<string> = []
  /** The applications that hear and say nothing, and what their connections do once they can again. */
  readonly #silent = new Map<string, Array<() => void>>()
  /** How many messages the armed application has sent since it was armed. */
  sent = 0
  cut = false

  constructor(url: string) {
    const { hostname, port } = new URL(url)
    this.#host = hostname
    this.#port = port === "" ? 5432 : Number(port)
  }

  /**
   * Drops the open connections of an application, and cuts the next one before
   * its `at`th message, or after the server has done what the message asks for,
   * and has answered.
   */
  arm(app: string, at: number, when: When): void {
    this.#armed = undefined
    for (const [stream, name] of this.#streams) if (name === app) stream.destroy(new Error("dropped"))
    this.#armed = { app, at, when }
    this.sent = 0
    this.#messages = []
    this.cut = false
  }

  disarm(): void {
    this.#armed = undefined
  }

  /** Carries nothing more of an application, new connections included, and keeps it open: until the returned function is called. */
  silence(app: string): () => void {
    const held: Array<() => void> = []
    this.#silent.set(app, held)
    return () => {
      this.#silent.delete(app)
      for (const pass of held) pass()
    }
  }

  #pass(app: string | undefined, pass: () => void): void {
    const held = app === undefined ? undefined : this.#silent.get(app)
    if (held === undefined) pass()
    else held.push(pass)
  }

  /** How many messages had been sent when those of the statement that contains the text were. */
  sentUntil(text: string): number {
    const parse = this.#messages.findIndex((message) => message.startsWith("P") && message.includes(text))
    return this.#messages.indexOf("S", parse) + 1
  }

  /** Whether the message is the one to cut at. */
  #hit(app: string, message: Message): When | undefined {
    if (this.#armed?.app !== app || this.cut) return undefined
    this.sent++
    this.#messages.push(message.type === "P" ? message.bytes.toString() : (message.type ?? ""))
    if (this.sent !== this.#armed.at) return undefined
    this.cut = true
    return this.#armed.when
  }

  readonly stream = (): Duplex => {
    const streams = this.#streams
    const socket = net.connect({ host: this.#host, port: this.#port, noDelay: true })
    let app: string | undefined
    let pending: Buffer = Buffer.alloc(0)
    /** What comes from the server is the client's, or says that the server is done. */
    let receive = (chunk: Buffer): void => {
      duplex.push(chunk)
    }
    const lost = () => duplex.destroy(new Error("the wire was cut"))

    /** The first message has no type; it names the application. */
    const next = (): Message | undefined => {
      const header = app === undefined ? 0 : 1
      if (pending.length < header + 4) return undefined
      const length = header + pending.readUInt32BE(header)
      if (pending.length < length) return undefined
      const bytes = pending.subarray(0, length)
      pending = pending.subarray(length)
      if (app !== undefined) return { bytes, type: String.fromCharCode(bytes[0]!) }
      const fields = bytes.toString("utf8", 8).split("\0")
      app = fields[fields.indexOf("application_name") + 1]!
      streams.set(duplex, app)
      return { bytes, type: undefined }
    }

    const duplex = new Duplex({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        pending = Buffer.concat([pending, chunk])
        const out: Array<Buffer> = []
        for (let message = next(); message !== undefined; message = next()) {
          const when = this.#hit(app!, message)
          if (when === undefined) {
            out.push(message.bytes)
            continue
          }
          done()
          receive = () => {}
          if (when === "after") out.push(message.bytes)
          if (when === "after" && answered(message.type)) {
            receive = () => {
              socket.end()
              lost()
            }
            socket.write(Buffer.concat(out))
          } else {
            // The server gets what was sent before, and then the end of the stream.
            socket.end(Buffer.concat(out))
            lost()
          }
          return
        }
        this.#pass(app, () => socket.write(Buffer.concat(out)))
        done()
      },
      final: (done) => {
        this.#pass(app, () => socket.end())
        done()
      },
      destroy: (error, done) => {
        streams.delete(duplex)
        this.#pass(app, () => {
          if (!socket.writableEnded) socket.destroy()
        })
        done(error)
      }
    })
    socket.on("data", (chunk: Buffer) => this.#pass(app, () => receive(chunk)))
    socket.on("end", () => this.#pass(app, () => duplex.push(null)))
    socket.on("error", (error) => duplex.destroy(error))
    return duplex
  }
}
