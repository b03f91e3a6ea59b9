/**
 * A failing run as a page: a lane for each node, time downwards, a bar for each run of a handler, an arrow from where a
 * message was published to each run that it was given to, and whatever went wrong where it did. It loads nothing.
 */
import type * as History from "../../History.ts"
import type { SimulationFailed } from "../../Simulation.ts"
import { reduction, title } from "./report.ts"

const rowHeight = 24
const laneWidth = 210
const gutter = 78
const top = 44
/** For what is written at the last lane. */
const margin = 200
/** A violation of which more events are part is one of the whole history: rings around all of them would show nothing. */
const mostGuilty = 8

const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** What is looked at when all is over has no place among what happened. */
const isAfterwards = ({ _tag }: History.Event): boolean =>
  _tag === "Progress" || _tag === "Residue" || _tag === "DeadLetter"

const isShown = ({ _tag }: History.Event): boolean => _tag !== "Register" && _tag !== "Apply"

interface Bar {
  readonly run: number
  readonly start: History.EventOf<"Start">
  readonly from: number
  to: number
  outcome: "ok" | "fail" | "interrupt" | "crash" | "open"
  committed: boolean
  readonly depth: number
}

export const toHtml = (failed: SimulationFailed): string => {
  const { replay, run } = failed
  const events = run.history.filter((event) => isShown(event) && !isAfterwards(event))
  const rows = new Map(events.map((event, row) => [event.seq, row]))
  const y = (row: number) => top + row * rowHeight + rowHeight / 2
  const lanes = Array.from(new Set(events.flatMap((event) => ("node" in event ? [event.node] : [])))).sort(byName)
  const x = (node: string) => gutter + lanes.indexOf(node) * laneWidth + 36
  const guilty = new Set(
    run.violations.flatMap(({ events }) => (events.length <= mostGuilty ? events.map(({ seq }) => seq) : []))
  )
  const bars = barsOf(events, rows)
  const barX = ({ depth, start }: Bar) => x(start.node) - 7 + depth * 18
  const height = top + events.length * rowHeight + 16
  const width = gutter + lanes.length * laneWidth + margin
  const groups = new Set(bars.map(({ start }) => start.group))
  /** Which group it was, where there are several. */
  const within = (group: string) => (groups.size > 1 ? ` [${group}]` : "")
  /** Beside a bar, and those of its node that are there as well. */
  const labelX = ({ start }: Bar, row: number) =>
    22 +
    Math.max(
      ...bars
        .filter((other) => other.start.node === start.node && other.from <= row && row <= other.to)
        .map((other) => barX(other))
    )

  const laneLines = lanes.map((node) => {
    const at = x(node)
    const bands = bandsOf(events, rows, node).map(
      ({ from, kind, to }) =>
        `<rect class="band ${kind}" x="${at - 30}" y="${y(from) - rowHeight / 2}" width="${laneWidth - 14}" height="${(to - from) * rowHeight}"/>`
    )
    return `${bands.join("")}<line class="lane" x1="${at}" x2="${at}" y1="${top - 6}" y2="${height}"/><text class="head" x="${at - 24}" y="24">${escape(node)}</text>`
  })

  const published = new Map<string, History.EventOf<"Publish">>()
  for (const event of events) {
    if (event._tag !== "Publish") continue
    const key = JSON.stringify([event.topic, event.id])
    // That which was delivered: an acknowledged one rather than one that was not.
    if (published.get(key)?.outcome !== "ok") published.set(key, event)
  }
  const arrows = bars.flatMap((bar) => {
    const publish = published.get(JSON.stringify([bar.start.topic, bar.start.id]))
    if (publish === undefined) return []
    const [x1, y1, y2] = [x(publish.node), y(rows.get(publish.seq)!), y(bar.from)]
    const toRight = barX(bar) >= x1
    const x2 = barX(bar) + (toRight ? -3 : 17)
    const middle = (x1 + x2) / 2
    return `<path class="arrow" data-id="${escape(bar.start.id)}" marker-end="url(#head)" d="M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}"/>`
  })

  const runs = bars.map((bar) => {
    const { attempt, epoch, group, id, offset, partition, topic } = bar.start
    const detail = [
      `${id}: run ${bar.run}, ${bar.outcome}${bar.committed ? ", committed" : ""}`,
      `${topic} [${group}] ${partition}/${offset}`,
      `attempt ${attempt}, epoch ${epoch}`
    ]
    return `<rect class="run ${bar.outcome}${bar.committed ? " committed" : ""}" data-id="${escape(id)}" data-detail="${escape(detail.join("\n"))}" tabindex="0" x="${barX(bar)}" y="${y(bar.from) - 8}" width="14" height="${Math.max(16, (bar.to - bar.from) * rowHeight + 16)}" rx="4"/>`
  })

  const marks = events.map((event, row) => {
    const bar = "run" in event ? bars.find(({ run }) => run === event.run) : undefined
    const besideBar = bar === undefined ? 0 : Math.max(barX(bar) + 22, labelX(bar, row))
    return mark(event, bar, { x, y: y(row), barX, besideBar, guilty, within })
  })

  const times = events.flatMap((event, row) =>
    row > 0 && events[row - 1]!.time === event.time
      ? []
      : [`<text class="time" x="${gutter - 18}" y="${y(row) + 4}">${event.time} ms</text>`]
  )

  const afterwards = run.history.filter(
    (event) => isAfterwards(event) && !(event._tag === "Residue" && event.count === 0)
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title(failed))}</title><style>${css}</style></head>
<body>
<header>
<h1>${escape(title(failed))}</h1>
<p class="sizes">${reduction(failed)}</p>
<ul class="violations">${run.violations.map(({ message }) => `<li>${escape(message)}</li>`).join("")}</ul>
<p>Run it again: <code>${escape(replay)}</code></p>
<p class="legend"><span class="key ok committed"></span>handled, committed <span class="key ok"></span>handled <span class="key fail"></span>failed <span class="key interrupt"></span>interrupted <span class="key crash"></span>cut short by a crash <span class="key band down"></span>down <span class="key band away"></span>frozen or cut off <span class="ring"></span>shows the violation</p>
</header>
<main><svg role="img" aria-label="what happened, by node and time" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>
${laneLines.join("\n")}
${times.join("\n")}
${runs.join("\n")}
${arrows.join("\n")}
${marks.join("\n")}
</svg>
${afterwards.length === 0 ? "" : `<h2>Found in the store at the end</h2><ul class="afterwards">${afterwards.map((event) => `<li>${escape(inWords(event))}</li>`).join("")}</ul>`}
</main>
<aside id="detail" hidden></aside>
<script>${script}</script>
</body></html>
`
}

const byName = (a: string, b: string): number => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0)

/** Clients first: what they publish goes to the right. */
const rank = (node: string): number => (node.startsWith("client") ? 0 : 1)

const barsOf = (events: ReadonlyArray<History.Event>, rows: ReadonlyMap<number, number>): ReadonlyArray<Bar> => {
  const bars = new Map<number, Bar>()
  const open = new Set<Bar>()
  const close = (bar: Bar, seq: number, outcome: Bar["outcome"]) => {
    bar.to = rows.get(seq)!
    bar.outcome = outcome
    open.delete(bar)
  }
  for (const event of events) {
    if (event._tag === "Start") {
      const taken = new Set(Array.from(open, ({ depth, start }) => (start.node === event.node ? depth : -1)))
      let depth = 0
      while (taken.has(depth)) depth++
      const from = rows.get(event.seq)!
      const bar: Bar = {
        run: event.run,
        start: event,
        from,
        to: events.length - 1,
        outcome: "open",
        committed: false,
        depth
      }
      bars.set(event.run, bar)
      open.add(bar)
    } else if (event._tag === "End") {
      const bar = bars.get(event.run)
      if (bar !== undefined) close(bar, event.seq, event.outcome)
    } else if (event._tag === "Commit") {
      const bar = bars.get(event.run)
      if (bar !== undefined) bar.committed = true
    } else if (event._tag === "Crash") {
      for (const bar of open) if (bar.start.node === event.node) close(bar, event.seq, "crash")
    }
  }
  return Array.from(bars.values())
}

/** When a node was down, or away. */
const bandsOf = (events: ReadonlyArray<History.Event>, rows: ReadonlyMap<number, number>, node: string) => {
  const bands: Array<{ readonly kind: "down" | "away"; readonly from: number; readonly to: number }> = []
  let begun: { readonly kind: "down" | "away"; readonly from: number } | undefined
  const end = (to: number) => {
    if (begun !== undefined) bands.push({ ...begun, to })
    begun = undefined
  }
  for (const event of events) {
    if (!("node" in event) || event.node !== node) continue
    const row = rows.get(event.seq)!
    if (event._tag === "Crash" || event._tag === "Disconnect") {
      end(row)
      begun = { kind: event._tag === "Crash" ? "down" : "away", from: row }
    } else if (event._tag === "Restart" || event._tag === "Reconnect") {
      end(row)
    }
  }
  end(events.length)
  return bands
}

interface Places {
  readonly x: (node: string) => number
  readonly y: number
  readonly barX: (bar: Bar) => number
  readonly besideBar: number
  readonly within: (group: string) => string
  readonly guilty: ReadonlySet<number>
}

const mark = (
  event: History.Event,
  bar: Bar | undefined,
  { barX, besideBar, guilty, within, x, y }: Places
): string => {
  const ring = (at: number) => (guilty.has(event.seq) ? `<circle class="ring" cx="${at}" cy="${y}" r="12"/>` : "")
  const id = "id" in event ? event.id : bar?.start.id
  const label = (at: number, text: string, kind = "", above = 0) =>
    `<text class="label ${kind}"${id === undefined ? "" : ` data-id="${escape(id)}"`} data-detail="${escape(inWords(event))}" x="${at}" y="${y + 4 - above}">${escape(text)}</text>`
  switch (event._tag) {
    case "Publish": {
      const at = x(event.node)
      const name =
        event.outcome === "ok" ? event.id : `${event.id} ${event.outcome === "info" ? "unknown" : "not sent"}`
      return `${ring(at)}<circle class="publish ${event.outcome}" data-id="${escape(event.id)}" data-detail="${escape(inWords(event))}" tabindex="0" cx="${at}" cy="${y}" r="5"/>${label(at + 12 + (event.run === undefined ? 0 : 18), event.run === undefined ? name : `publishes ${name}`, "", 8)}`
    }
    case "Start":
      return bar === undefined
        ? ""
        : `${ring(barX(bar) + 7)}${label(besideBar, `${event.id}${within(event.group)}${event.attempt > 1 ? `, attempt ${event.attempt}` : ""}`)}`
    case "End":
      return bar === undefined ? "" : `${ring(barX(bar) + 7)}${label(besideBar, event.outcome, event.outcome)}`
    case "Commit":
      return bar === undefined
        ? ""
        : `${ring(barX(bar) + 7)}<path class="commit" d="M${barX(bar) + 1},${y} l4,4 l8,-9"/>${label(besideBar, `${bar.start.id}${within(bar.start.group)} committed`, "ok")}`
    case "Fault":
      return `${ring(x(event.node))}<path class="bolt" d="M${x(event.node) + 2},${y - 9} l-7,11 h5 l-2,8 l8,-12 h-5 z"/>${label(x(event.node) + 14, event.what.slice(event.node.length + 2), "fail")}`
    case "Crash":
      return `${ring(x(event.node))}<path class="cross" d="M${x(event.node) - 6},${y - 6} l12,12 m0,-12 l-12,12"/>${label(x(event.node) + 14, "crash", "fail")}`
    case "Calm":
      return `<line class="calm" x1="${gutter}" x2="100%" y1="${y}" y2="${y}"/><text class="label calm" x="${gutter}" y="${y - 4}">no more faults</text>`
    case "Settle":
      return `${ring(x(event.node))}${label(x(event.node) + 14, `settled ${event.partition} up to ${event.offset}${within(event.group)}${event.outcome === "ok" ? "" : `: ${event.outcome}`}`, "quiet")}`
    default:
      return "node" in event
        ? `${ring(x(event.node))}${label(x(event.node) + 14, `${event._tag.toLowerCase()}${"group" in event ? within(event.group) : ""}`, "quiet")}`
        : ""
  }
}

const inWords = (event: History.Event): string =>
  Object.entries(event)
    .filter(([name, value]) => name !== "content" && name !== "call" && name !== "index" && value !== undefined)
    .map(([name, value]) => (name === "_tag" ? String(value) : `${name} ${value}`))
    .join(", ")

const css = `
:root{color-scheme:light dark;--bg:#fff;--ink:#1c2330;--soft:#667085;--line:#d5dae3;--arrow:#98a2b3;--ok:#1a7f4b;--okfill:#b7e4cb;--fail:#c0262d;--failfill:#f7c1c3;--away:#fff0cc;--down:#fbdcdc;--accent:#3b5bdb;--panel:#f5f7fa}
@media(prefers-color-scheme:dark){:root{--bg:#12161d;--ink:#e6eaf2;--soft:#98a2b3;--line:#2c3442;--arrow:#5b6678;--ok:#4cc38a;--okfill:#1d4a36;--fail:#ff7b7f;--failfill:#5b2327;--away:#3d3315;--down:#43202a;--accent:#91a7ff;--panel:#1a2029}}
body{margin:0;background:var(--bg);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
header{padding:20px 24px 12px;border-bottom:1px solid var(--line)}h1{font-size:19px;margin:0 0 6px}h2{font-size:15px;margin:24px 0 6px}p{margin:4px 0}
code{background:var(--panel);padding:2px 6px;border-radius:4px}.sizes{color:var(--soft)}.violations{margin:8px 0;padding-left:20px;color:var(--fail);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center;color:var(--soft);font-size:12px;margin-top:10px}
.legend .key{display:inline-block;width:14px;height:14px;border-radius:4px;border:1.5px solid var(--soft);margin-left:10px}
.legend .ring{display:inline-block;width:12px;height:12px;border-radius:50%;border:2px solid var(--fail);margin-left:10px}
main{padding:8px 24px 60px;overflow-x:auto}svg{display:block;font:12px system-ui,sans-serif}
.lane{stroke:var(--line);stroke-width:1.5}.head{fill:var(--ink);font-weight:600;font-size:13px}.time{fill:var(--soft);text-anchor:end;font-variant-numeric:tabular-nums}
.band.down{fill:var(--down);background:var(--down)}.band.away{fill:var(--away);background:var(--away)}
.arrow{fill:none;stroke:var(--arrow);stroke-width:1.2}marker path{fill:context-stroke}
.run{fill:var(--panel);stroke:var(--soft);stroke-width:1.5}.run.ok,.key.ok{stroke:var(--ok);border-color:var(--ok)}.run.ok.committed,.key.ok.committed{fill:var(--okfill);background:var(--okfill)}.run.fail,.key.fail{fill:var(--failfill);background:var(--failfill);stroke:var(--fail);border-color:var(--fail)}.run.interrupt,.key.interrupt{stroke-dasharray:3 2;border-style:dashed}.run.crash,.key.crash{stroke:var(--fail);border-color:var(--fail);stroke-dasharray:3 2;border-style:dashed}
.publish{fill:var(--accent)}.publish.fail{fill:var(--bg);stroke:var(--fail);stroke-width:2}.publish.info{fill:var(--bg);stroke:var(--accent);stroke-width:2;stroke-dasharray:2 2}
.label{fill:var(--ink);paint-order:stroke;stroke:var(--bg);stroke-width:2.5px}.label.quiet{fill:var(--soft)}.label.ok{fill:var(--ok)}.label.fail{fill:var(--fail);font-weight:600}.label.interrupt{fill:var(--soft)}.label.calm{fill:var(--soft)}
.commit{fill:none;stroke:var(--ok);stroke-width:2}.bolt{fill:var(--fail)}.cross{stroke:var(--fail);stroke-width:2.5}svg .ring{fill:none;stroke:var(--fail);stroke-width:2}
.calm{stroke:var(--line);stroke-dasharray:5 4}text.calm{stroke:none}
.afterwards{color:var(--soft);padding-left:20px}
svg.chosen [data-id]{opacity:.22}svg.chosen [data-id].on{opacity:1}svg.chosen .arrow.on{stroke:var(--accent);stroke-width:2}
#detail{position:fixed;pointer-events:none;background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:8px 10px;white-space:pre-line;max-width:340px;box-shadow:0 4px 16px #0003;font-size:12px}
`

/** Shows what belongs to a message while the pointer, or the focus, is on it. */
const script = `
const svg=document.querySelector("svg"),box=document.getElementById("detail")
const show=(e)=>{const t=e.target.closest("[data-id],[data-detail]");svg.classList.toggle("chosen",!!(t&&t.dataset.id));for(const n of svg.querySelectorAll("[data-id]"))n.classList.toggle("on",!!t&&n.dataset.id===t.dataset.id)
box.hidden=!(t&&t.dataset.detail);if(!box.hidden){box.textContent=t.dataset.detail;const r=t.getBoundingClientRect();box.style.left=Math.max(8,Math.min(innerWidth-box.offsetWidth-8,r.right+10))+"px";box.style.top=Math.max(8,Math.min(innerHeight-box.offsetHeight-8,r.top))+"px"}}
svg.addEventListener("pointerover",show);svg.addEventListener("focusin",show);svg.addEventListener("pointerleave",show)
`
