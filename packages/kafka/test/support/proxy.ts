/** A network between a client and its broker, which can be cut. */

import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"

export class Proxy {
  readonly port: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #state: "up" | "lost" | "frozen" = "up"

  private constructor(server: Server, port: number) {
    this.#server = server
    this.port = port
  }

  /** `target` is asked for at each connection. */
  static async make(target: () => number): Promise<Proxy> {
    const server = createServer()
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const proxy = new Proxy(server, (server.address() as { readonly port: number }).port)
    server.on("connection", (client) => {
      if (proxy.#state === "lost") return client.destroy()
      const broker = connect(target(), "127.0.0.1")
      proxy.#join(client, broker)
      proxy.#join(broker, client)
      if (proxy.#state === "frozen") proxy.cut("frozen")
    })
    return proxy
  }

  /** `lost`: connections break, and are refused. `frozen`: nothing comes through, and nothing breaks. */
  cut(how: "lost" | "frozen"): void {
    this.#state = how
    for (const socket of this.#sockets) {
      if (how === "lost") socket.destroy()
      else socket.pause()
    }
  }

  mend(): void {
    this.#state = "up"
    for (const socket of this.#sockets) socket.resume()
  }

  close(): void {
    this.cut("lost")
    this.#server.close()
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from)
    from.setNoDelay(true)
    from.on("data", (bytes) => {
      if (!to.write(bytes)) {
        from.pause()
        to.once("drain", () => this.#state !== "frozen" && from.resume())
      }
    })
    from.on("error", () => {})
    from.on("close", () => {
      this.#sockets.delete(from)
      to.destroy()
    })
  }
}
