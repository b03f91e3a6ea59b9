/** An explanation as text: labels on the left, and sentences that are wrapped beside them. */
import * as Duration from "effect/Duration"
import type { Retention } from "../../Description.ts"
import type { Explanation, Group, Retries, TopicExplanation, Unmet, WeakestLink } from "../../Explain.ts"
import { nameOf } from "./derive.ts"

interface Options {
  readonly width: number
  readonly colors: boolean
}

type Style = "bold" | "dim" | "red" | "green"

const codes: { readonly [S in Style]: readonly [number, number] } = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39]
}

/** A label, and what stands beside it, a paragraph each. */
type Row = readonly [label: string, ...paragraphs: ReadonlyArray<string>]

const wrap = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === "" ? word : `${line} ${word}`
    }
  }
  return [...lines, line]
}

const lasts = (millis: number | null): string =>
  millis === null ? "without limit" : Duration.format(Duration.millis(millis))

const kept = (retention: Retention | null): string =>
  retention === null
    ? "for a time that the transport does not declare"
    : retention === "forever"
      ? "for ever"
      : `for ${lasts(retention.millis)}`

const bytes = (count: number): string =>
  count % (1024 * 1024) === 0
    ? `${count / (1024 * 1024)} MiB`
    : count % 1024 === 0
      ? `${count / 1024} KiB`
      : `${count} bytes`

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

const retried = ({ delays, dependsOn, jittered, times, total }: Retries): string => {
  if (dependsOn === "failure") return "as the failure says"
  if (dependsOn === "time") return "at times of the calendar"
  if (dependsOn === "unknown") return "by a schedule that does not tell"
  if (times === 0) return "not at all"
  const shown = delays.map((millis) => lasts(millis)).join(", ")
  const jitter = jittered ? ", jittered" : ""
  if (times === null || total === null) return `after ${shown}, … (not known to end${jitter})`
  const more = times > delays.length ? ", …" : ""
  return `after ${shown}${more} (${counted(times, "time")}, ${lasts(Math.round(total))} in all${jitter})`
}

const link = ({ allows, link, raisedBy, when }: WeakestLink): ReadonlyArray<string> => [
  `${link}: ${allows} ${when}`,
  `raised by ${raisedBy}`
]

const then = { "dead-letter": "dead letter", discard: "discarded as handled", stop: "the group stops" } as const

const groupRows = (group: Group, lease: number | null): ReadonlyArray<Row> => {
  const { batch, concurrency, defects, failures, handlerTimeout, maxCrashes, possible, redeliverAfter, startFrom } =
    group
  const repeated = (retries: Group["defects"], end: string) =>
    retries === null ? end : `repeated ${retried(retries)}, then ${end}`
  const together = batch === null ? "" : `, batches of up to ${batch.maxSize} (waiting ${lasts(batch.maxWait)})`
  return [
    [
      `group ${group.name}`,
      `${counted(concurrency, "handler")} at once${together}, each for up to ${lasts(handlerTimeout)}; a new group starts at the ${startFrom} message`,
      ...failures.map(({ retries, tag, then: end }) => `${tag ?? "other failures"}: ${repeated(retries, then[end])}`),
      `defects and timeouts: ${repeated(defects, "dead letter")}`,
      ...(maxCrashes === null
        ? []
        : [
            `a process that ends: handled again${lease === null ? "" : ` once its lease of ${lasts(lease)} is over`}; dead letter after more than ${counted(maxCrashes, "time")}`
          ]),
      ...(redeliverAfter === null
        ? []
        : [`retries due later than ${lasts(redeliverAfter)} are stored and redelivered`]),
      ...possible
    ]
  ]
}

const rows = (topic: TopicExplanation): ReadonlyArray<Row> => {
  const { assumptions, groups, parts, possible, producer, retention, transport, weakestLink } = topic
  const published = producer.here ? "by this app" : "not by this app, as far as it says"
  return [
    ...(topic.derived === topic.declared ? [["promise", topic.promise] as const] : []),
    ["made of", parts.map(({ layer }) => layer).join(", ")],
    [
      "transport",
      `${transport.name}, ${counted(topic.partitions, "partition")}, records of up to ${bytes(transport.maxRecordBytes)}`,
      `durable: ${transport.durable}`,
      `order: ${transport.order}`
    ],
    [
      "published",
      `${published}; id ${producer.id === "payload" ? "of the payload" : "generated"}, ${producer.key === "payload" ? "key of the payload" : "no key"}`,
      producer.ackTimeout === null || producer.retries === null
        ? "tried once"
        : `each try waits ${lasts(producer.ackTimeout)} for its acknowledgement; repeated ${retried(producer.retries)}`
    ],
    ...(groups.length === 0
      ? [["groups", "none in this app"] as const]
      : groups.flatMap((group) => groupRows(group, transport.lease))),
    [
      "kept",
      `messages ${kept(retention.messages)}${retention.settledIds === null ? "" : `, settled ids ${kept(retention.settledIds)}`}`
    ],
    ...(weakestLink === null ? [] : [["weakest link", ...link(weakestLink)] as const]),
    ...(assumptions.length === 0
      ? []
      : [["assumed", ...assumptions.map(({ holds, known }) => `${holds} (${known})`)] as const]),
    ...(possible.length === 0 ? [] : [["possible", ...possible] as const])
  ]
}

export const render = ({ topics }: Explanation, { colors, width }: Options): string => {
  const style = (text: string, ...styles: ReadonlyArray<Style>) =>
    colors ? styles.reduce((inner, name) => `\x1b[${codes[name][0]}m${inner}\x1b[${codes[name][1]}m`, text) : text
  if (topics.length === 0) return "This app consumes no topic, and says that it publishes none."
  return topics
    .map((topic) => {
      const met = topic.derived === topic.declared
      const verdict = met ? `${topic.derived}, as declared` : `${topic.derived}, below the declared ${topic.declared}`
      const found = rows(topic)
      const indent = Math.max(...found.map(([label]) => Math.min(label.length, 20))) + 4
      const beside = (row: Row) =>
        row
          .slice(1)
          .flatMap((paragraph) =>
            wrap(paragraph, Math.max(20, width - indent - 2)).map((line, index) => (index === 0 ? line : `  ${line}`))
          )
      return [
        `${style(nameOf(topic), "bold")}: ${style(verdict, met ? "green" : "red")}`,
        ...found.flatMap((row) => {
          const [label] = row
          const lines = beside(row)
          const head = `  ${style(label, "dim")}`
          const pad = (length: number) => " ".repeat(Math.max(0, indent - length))
          // A long name has a line of its own.
          return label.length + 4 > indent
            ? [head, ...lines.map((line) => pad(0) + line)]
            : lines.map((line, index) => (index === 0 ? head + pad(label.length + 2) : pad(0)) + line)
        })
      ].join("\n")
    })
    .join("\n\n")
}

export const unmet = ({ derived, required, topic, weakestLink }: Unmet): string => {
  if (derived === null || weakestLink === null) {
    return `"${topic}" is to be ${required}, but the app has no such topic: consume it, or name it in publishes`
  }
  const [why, raised] = link(weakestLink)
  return `"${topic}" is to be ${required}, but is ${derived}: ${why}; ${raised}`
}
