/** Topics, and the publish horizon (POSTGRES.md, section A). */
import { bodyQuote, invalidStateCode, literal, type Names, standbyCode } from "./common.ts"

export const logFunctions = ({ schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
  // One sequence per topic, named after its id.
  `CREATE FUNCTION ${s}.topic_sequence(p_topic integer) RETURNS oid LANGUAGE sql STABLE AS ${body}
  SELECT (${literal(`${s}.offset_`)} || p_topic)::regclass::oid
${body}`,
  `CREATE FUNCTION ${s}.declare_topic(p_name text, p_partitions integer)
RETURNS TABLE (id integer, partitions integer) LANGUAGE plpgsql AS ${body}
#variable_conflict use_column
DECLARE
  v_id integer;
BEGIN
  INSERT INTO ${s}.topic AS t (name, partitions) SELECT p_name, p_partitions
    WHERE NOT EXISTS (SELECT FROM ${s}.topic WHERE name = p_name)
    ON CONFLICT (name) DO NOTHING RETURNING t.id INTO v_id;
  IF v_id IS NOT NULL THEN
    EXECUTE format(${literal(`CREATE SEQUENCE ${s.replaceAll("%", "%%")}.%I AS bigint CACHE 1 NO CYCLE`)}, 'offset_' || v_id);
  ELSE
    SELECT t.id INTO STRICT v_id FROM ${s}.topic t WHERE t.name = p_name;
    PERFORM ${s}.check_topic(v_id);
  END IF;
  RETURN QUERY SELECT t.id, t.partitions FROM ${s}.topic t WHERE t.id = v_id;
END ${body}`,
  // To a role without privileges a sequence looks as if it had never been used: its readers would wait for ever.
  `CREATE FUNCTION ${s}.check_privilege(p_sequence oid) RETURNS void LANGUAGE plpgsql AS ${body}
BEGIN
  IF NOT has_sequence_privilege(p_sequence, 'USAGE, SELECT') THEN
    RAISE EXCEPTION 'permission denied for sequence %: grant USAGE and SELECT on it to %', p_sequence::regclass, current_user
      USING ERRCODE = 'insufficient_privilege';
  END IF;
END ${body}`,
  // The greatest offset that is stored anywhere.
  `CREATE FUNCTION ${s}.topic_reached(p_topic integer) RETURNS bigint LANGUAGE sql VOLATILE AS ${body}
  SELECT greatest(
    0,
    (SELECT max(tail.log_offset)
      FROM ${s}.topic t, generate_series(0, t.partitions - 1) AS p, LATERAL (
        SELECT l.log_offset FROM ${s}.log l WHERE l.topic = p_topic AND l.partition = p
        ORDER BY l.log_offset DESC LIMIT 1
      ) AS tail
      WHERE t.id = p_topic),
    (SELECT max(greatest(c.settled, e.claimed))
      FROM ${s}.consumer_group g JOIN ${s}.cursor c ON c.consumer_group = g.id
      JOIN ${s}.lease e ON e.consumer_group = c.consumer_group AND e.partition = c.partition
      WHERE g.topic = p_topic)
  )
${body}`,
  // Rule 5. The sequence is read after the tables: in a healthy state it is never behind.
  `CREATE FUNCTION ${s}.check_topic(p_topic integer) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_sequence oid := ${s}.topic_sequence(p_topic);
  v_reached bigint;
  v_last bigint;
BEGIN
  IF EXISTS (SELECT FROM pg_sequence WHERE seqrelid = v_sequence AND (seqcache <> 1 OR seqcycle OR seqincrement <> 1)) THEN
    RAISE EXCEPTION 'the sequence % was altered: it needs INCREMENT 1 CACHE 1 NO CYCLE, or messages are skipped', v_sequence::regclass
      USING ERRCODE = '${invalidStateCode}';
  END IF;
  v_reached := ${s}.topic_reached(p_topic);
  v_last := coalesce(pg_sequence_last_value(v_sequence::regclass), 0);
  IF v_last = 0 THEN PERFORM ${s}.check_privilege(v_sequence); END IF;
  IF v_last < v_reached THEN
    RAISE EXCEPTION 'the sequence % is at %, behind offset % of its own log (a restore, a TRUNCATE or a replica that did not copy it): new messages would be invisible',
      v_sequence::regclass, v_last, v_reached USING ERRCODE = '${invalidStateCode}';
  END IF;
END ${body}`,
  `CREATE FUNCTION ${s}.repair_topic(p_name text) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_topic integer;
  v_sequence oid;
BEGIN
  SELECT id INTO v_topic FROM ${s}.topic WHERE name = p_name;
  IF v_topic IS NULL THEN
    RAISE EXCEPTION 'topic "%" does not exist', p_name USING ERRCODE = '${invalidStateCode}';
  END IF;
  EXECUTE format(${literal(`CREATE SEQUENCE IF NOT EXISTS ${s.replaceAll("%", "%%")}.%I AS bigint`)}, 'offset_' || v_topic);
  v_sequence := ${s}.topic_sequence(v_topic);
  EXECUTE format('ALTER SEQUENCE %s INCREMENT 1 CACHE 1 NO CYCLE', v_sequence::regclass);
  IF coalesce(pg_sequence_last_value(v_sequence::regclass), 0) < ${s}.topic_reached(v_topic) THEN
    PERFORM setval(v_sequence::regclass, ${s}.topic_reached(v_topic));
  END IF;
END ${body}`,
  // Rules 2, 3 and 4: before its first offset a transaction locks the last value, shared, once for each topic. The setting rolls
  // back with the lock. Returns what to draw from, so that nothing can be drawn before (rule 6). Of one expression, which is
  // inlined: a call costs more than all that it does.
  `CREATE FUNCTION ${s}.hold_horizon(p_topic integer) RETURNS regclass LANGUAGE sql VOLATILE AS ${body}
  SELECT CASE
    WHEN position(',' || ${s}.topic_sequence(p_topic) || ',' IN coalesce(current_setting('surety.horizon', true), '')) > 0
      THEN ${s}.topic_sequence(p_topic)::regclass
    WHEN pg_advisory_xact_lock_shared(
      ${s}.topic_sequence(p_topic)::bigint::bit(32)::integer,
      coalesce(pg_sequence_last_value(${s}.topic_sequence(p_topic)::regclass), 0)::bit(32)::integer
    ) IS NULL THEN NULL
    WHEN set_config(
      'surety.horizon',
      coalesce(nullif(current_setting('surety.horizon', true), ''), ',') || ${s}.topic_sequence(p_topic) || ',',
      true
    ) IS NULL THEN NULL
    ELSE ${s}.topic_sequence(p_topic)::regclass
  END
${body}`,
  // Rules 8 and 9. A single message is stored by a plain INSERT of the publisher's (publisher.ts), at half the cost.
  `CREATE FUNCTION ${s}.publish(
  p_topic integer, p_partitions smallint[], p_ids text[], p_keys text[], p_headers text[], p_times timestamptz[], p_payloads bytea[]
) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_sequence regclass := ${s}.hold_horizon(p_topic);
BEGIN
  INSERT INTO ${s}.log (topic, partition, log_offset, id, key, headers, published_at, payload)
  SELECT p_topic, r.partition, nextval(v_sequence), r.id, r.key, r.headers, r.published_at, r.payload
  FROM (
    SELECT * FROM unnest(p_partitions, p_ids, p_keys, p_headers, p_times, p_payloads)
      WITH ORDINALITY AS u(partition, id, key, headers, published_at, payload, ord)
    ORDER BY u.ord
  ) AS r;
END ${body}`,
  // Rules 1 and 4: H, then M; the rows are read by a later statement. A holder of lock L draws only above L.
  `CREATE FUNCTION ${s}.horizon(p_topic integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS ${body}
DECLARE
  v_sequence oid := ${s}.topic_sequence(p_topic);
  v_last bigint;
  v_lowest bigint;
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'the server is a standby: the log can only be read on the primary' USING ERRCODE = '${standbyCode}';
  END IF;
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the log can only be read in a READ COMMITTED transaction' USING ERRCODE = '${invalidStateCode}';
  END IF;
  v_last := coalesce(pg_sequence_last_value(v_sequence::regclass), 0);
  IF v_last = 0 THEN PERFORM ${s}.check_privilege(v_sequence); END IF;
  SELECT min(v_last + ((l.objid::bigint - (v_last & 4294967295) + 6442450944) & 4294967295) - 2147483648) INTO v_lowest
  FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = v_sequence
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
  RETURN least(v_last, v_lowest);
END ${body}`
]
