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

/**
 * For functions whose plans a session keeps: made while a table is empty, they
 * would go on scanning it from end to end once it has grown.
 */
export const byIndex = "SET enable_seqscan = off SET enable_bitmapscan = off"

/** Error codes that our functions raise. */
export const fencedCode = "SU001"
export const invalidStateCode = "SU002"
export const refusedCode = "SU003"
export const standbyCode = "SU004"
