/** What the statements of the schema share. */

/** `schema` is a quoted identifier, `channel` the name that its notifications use. */
export interface Names {
  readonly schema: string
  readonly channel: string
}

export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Quotes the bodies of functions, whatever the name of the schema in them holds. */
export const bodyQuote = (schema: string): string => {
  let tag = "body"
  while (schema.includes(`$${tag}$`)) tag += "_"
  return `$${tag}$`
}

/** Error codes that our functions raise. */
export const fencedCode = "SU001"
export const invalidStateCode = "SU002"
