const allowed = /^[A-Za-z0-9._-]{1,200}$/

/** Why a topic or group name is refused, or undefined when it is fine. */
export const invalidName = (kind: "topic" | "group", name: string): string | undefined =>
  allowed.test(name)
    ? undefined
    : name === ""
      ? `the ${kind} name is empty; give it 1 to 200 characters from A-Z a-z 0-9 . _ -`
      : name.length > 200
        ? `the ${kind} name has ${name.length} characters; at most 200 are allowed`
        : `the ${kind} name ${JSON.stringify(name)} has characters other than A-Z a-z 0-9 . _ -`

/** Why a text of a message is refused: one that is not well-formed Unicode has no UTF-8 form, and would come back changed. */
export const invalidText = (what: string, text: string): string | undefined =>
  text.isWellFormed() ? undefined : `the ${what} is not well-formed Unicode (it holds a lone surrogate)`

/** Why the versions of a topic's schema are refused. */
export const invalidVersions = (version: number, older: Readonly<Record<number, unknown>>): string | undefined => {
  if (!Number.isInteger(version) || version < 1)
    return `the version of the schema is ${version}; it is a whole number from 1`
  const unknown = Object.keys(older).find(
    (key) => !Number.isInteger(Number(key)) || Number(key) < 1 || Number(key) >= version
  )
  return unknown === undefined
    ? undefined
    : `older versions of the schema include ${unknown}; they are whole numbers from 1 to below its version, ${version}`
}

/** Why a number of partitions is refused. */
export const invalidPartitions = (partitions: number): string | undefined =>
  Number.isInteger(partitions) && partitions >= 1 && partitions <= 1024
    ? undefined
    : `${partitions} partitions; a topic has 1 to 1,024`
