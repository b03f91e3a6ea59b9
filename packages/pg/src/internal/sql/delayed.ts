/** Delayed delivery: what is stored now, and becomes part of the log at its time. */
import { bodyQuote, byIndex, literal, type Names } from "./common.ts"

export const delayedFunctions = ({ schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
  // Due so many milliseconds from now, or at so many since the epoch; one time for all, so that they keep their order.
  `CREATE FUNCTION ${s}.publish_later(
  p_topic integer, p_after double precision, p_at double precision,
  p_partitions smallint[], p_ids text[], p_keys text[], p_headers text[], p_times timestamptz[], p_payloads bytea[]
) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_due timestamptz := coalesce(to_timestamp(p_at / 1000), clock_timestamp() + p_after * interval '1 millisecond');
BEGIN
  INSERT INTO ${s}.delayed (topic, due_at, partition, id, key, headers, published_at, payload)
  SELECT p_topic, v_due, r.partition, r.id, r.key, r.headers, r.published_at, r.payload
  FROM (
    SELECT * FROM unnest(p_partitions, p_ids, p_keys, p_headers, p_times, p_payloads)
      WITH ORDINALITY AS u(partition, id, key, headers, published_at, payload, ord)
    ORDER BY u.ord
  ) AS r;
END ${body}`,
  // In how many milliseconds the next one of each topic is due.
  `CREATE FUNCTION ${s}.next_due() RETURNS TABLE (topic integer, wait double precision) LANGUAGE sql VOLATILE ${byIndex} AS ${body}
  SELECT t.id, extract(epoch FROM n.due_at - clock_timestamp())::double precision * 1000
  FROM ${s}.topic t, LATERAL (
    SELECT d.due_at FROM ${s}.delayed d WHERE d.topic = t.id ORDER BY d.due_at, d.seq LIMIT 1
  ) AS n
${body}`,
  // Moves a batch of what is due into the log, and returns the partitions of each. Through publish, since readers must not
  // skip these rows either. One at a time for a topic: of two that pick one after the other, the second may draw its
  // offsets first. Null while another one is at it.
  `CREATE FUNCTION ${s}.deliver_due(p_topic integer, p_limit integer, p_bytes bigint) RETURNS integer[] LANGUAGE plpgsql VOLATILE ${byIndex} AS ${body}
DECLARE
  v_now timestamptz;
  v_due record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(${literal(`${s}.delayed`)}::regclass::oid::bigint::bit(32)::integer, p_topic) THEN
    RETURN NULL;
  END IF;
  v_now := clock_timestamp();
  WITH picked AS (
    SELECT d.ctid AS place, d.due_at, d.seq, octet_length(d.payload) AS bytes FROM ${s}.delayed d
    WHERE d.topic = p_topic AND d.due_at <= v_now
    ORDER BY d.due_at, d.seq LIMIT p_limit FOR UPDATE SKIP LOCKED
  ),
  fitting AS (
    SELECT p.place, row_number() OVER w AS n, sum(p.bytes) OVER w AS bytes FROM picked p WINDOW w AS (ORDER BY p.due_at, p.seq)
  ),
  moved AS (
    DELETE FROM ${s}.delayed d WHERE d.ctid = ANY (ARRAY(SELECT f.place FROM fitting f WHERE f.n = 1 OR f.bytes <= p_bytes))
    RETURNING d.*
  )
  SELECT coalesce(array_agg(m.partition ORDER BY m.due_at, m.seq), '{}') AS partitions, array_agg(m.id ORDER BY m.due_at, m.seq) AS ids,
    array_agg(m.key ORDER BY m.due_at, m.seq) AS keys, array_agg(m.headers ORDER BY m.due_at, m.seq) AS headers,
    array_agg(m.published_at ORDER BY m.due_at, m.seq) AS times, array_agg(m.payload ORDER BY m.due_at, m.seq) AS payloads
  INTO v_due FROM moved m;
  IF cardinality(v_due.partitions) > 0 THEN
    PERFORM ${s}.publish(p_topic, v_due.partitions, v_due.ids, v_due.keys, v_due.headers, v_due.times, v_due.payloads);
  END IF;
  RETURN v_due.partitions::integer[];
END ${body}`
]
