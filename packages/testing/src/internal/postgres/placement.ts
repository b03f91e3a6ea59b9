/**
 * Where a server's files go, and under which account it runs.
 *
 * PostgreSQL refuses to run as root. Started by root it runs as an account that
 * exists anyway, which must reach its binaries and its data: in a clone under a
 * home directory of mode 700 it does not, and gets hard links or copies.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import { dirname, join, relative } from "node:path"
import { Failure } from "./protocol.ts"

export interface Account {
  readonly uid: number
  readonly gid: number
}

const id = (flag: "-u" | "-g", name: string): number | undefined => {
  const { status, stdout } = spawnSync("id", [flag, name], { encoding: "utf8" })
  return status === 0 ? Number(stdout) : undefined
}

/** The account of the server; `undefined` is our own. */
export const findAccount = (): Account | undefined => {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ["nobody", "postgres"]) {
    const uid = id("-u", name)
    const gid = id("-g", name)
    if (uid !== undefined && gid !== undefined) return { uid, gid }
  }
  throw new Failure(
    "NoAccount",
    "PostgreSQL does not run as root, and there is no account `nobody` or `postgres` to run it as: run as a normal user."
  )
}

const succeeds = (file: string, args: ReadonlyArray<string>, account: Account | undefined) =>
  spawnSync(file, args, { ...account, cwd: "/", stdio: "ignore" }).status === 0

/** Creates the server's own directory, in a directory for temporary files that the account can reach. */
export const makeDirectory = (account: Account | undefined): string => {
  const candidates = [os.tmpdir(), "/tmp", "/var/tmp"]
  const parent =
    account === undefined
      ? candidates[0]
      : candidates.find((path) => succeeds("/bin/sh", ["-c", 'test -d "$1" -a -x "$1"', "sh", path], account))
  if (parent === undefined) {
    throw new Failure(
      "StartFailed",
      `The account that PostgreSQL runs as (uid ${account?.uid}) cannot enter any of ${candidates.join(", ")}: ` +
        "set TMPDIR to a directory that everyone can enter."
    )
  }
  const directory = fs.mkdtempSync(join(parent, "surety-postgres-"))
  if (account !== undefined) fs.chownSync(directory, account.uid, account.gid)
  return directory
}

/** The symbolic links that an npm package cannot hold, and that a postinstall script makes unless scripts are off. */
const readLinks = (binaries: string): ReadonlyArray<{ readonly path: string; readonly to: string }> => {
  const file = join(binaries, "pg-symlinks.json")
  if (!fs.existsSync(file)) return []
  const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(
    fs.readFileSync(file, "utf8")
  )
  return links.map(({ source, target }) => ({
    path: relative("native", target),
    to: relative(dirname(target), source)
  }))
}

const isReadableByAll = (stats: fs.Stats) => (stats.mode & 0o004) !== 0

/** Hard links where the file system and the file's mode allow it, copies elsewhere. */
const replicate = (from: string, to: string, account: Account | undefined) => {
  const own = (path: string) => {
    if (account !== undefined) fs.lchownSync(path, account.uid, account.gid)
  }
  const stats = fs.lstatSync(from)
  if (stats.isDirectory()) {
    fs.mkdirSync(to)
    own(to)
    for (const name of fs.readdirSync(from)) replicate(join(from, name), join(to, name), account)
  } else if (stats.isSymbolicLink()) {
    fs.symlinkSync(fs.readlinkSync(from), to)
  } else {
    try {
      if (!isReadableByAll(stats)) throw new Error("a link would be as unreadable as the file")
      fs.linkSync(from, to)
    } catch {
      fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE)
      own(to)
    }
  }
}

/** The binaries themselves where the account can run them, else a replica in `directory`. */
export const placeBinaries = (binaries: string, directory: string, account: Account | undefined): string => {
  const runs = (at: string) => succeeds(join(at, "bin", "initdb"), ["--version"], account)
  const links = readLinks(binaries)
  const isComplete = links.every(({ path }) => fs.existsSync(join(binaries, path)))
  if (isComplete && runs(binaries)) return binaries

  const replica = join(directory, "native")
  replicate(binaries, replica, account)
  for (const { path, to } of links) {
    if (!fs.existsSync(join(replica, path))) fs.symlinkSync(to, join(replica, path))
  }
  if (!runs(replica)) {
    const { error, stderr } = spawnSync(join(replica, "bin", "initdb"), ["--version"], { ...account, cwd: "/" })
    throw new Failure(
      "NoBinaries",
      `The PostgreSQL in ${binaries} does not run on this machine: ${error?.message ?? stderr?.toString().trim()}`
    )
  }
  return replica
}
