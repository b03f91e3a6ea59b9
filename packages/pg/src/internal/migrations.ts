/**
 * The schema, as versioned migrations. A migration that was released is never
 * changed.
 */

import { nullText } from "./text.ts"

/** `schema` is a quoted identifier, `channel` the name that its notifications use. */
export interface Names {
  readonly schema: string
  readonly channel: string
}

export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: (names: Names) => ReadonlyArray<string>
}

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Quotes the bodies of functions, whatever the name of the schema in them holds. */
const bodyQuote = (schema: string): string => {
  let tag = "body"
  while (schema.includes(`$${tag}$`)) tag += "_"
  return `$${tag}$`
}

/** Error codes that our functions raise. */
export const fencedCode = "SU001"
export const invalidStateCode = "SU002"

const tables = ({ schema: s }: Names): ReadonlyArray<string> => [
  `CREATE TABLE ${s}.topic (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 1024),
  hash text NOT NULL DEFAULT 'fnv1a'
)`,
  `CREATE TABLE ${s}.log (
  topic integer NOT NULL,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  key text COLLATE "C",
  headers text NOT NULL,
  published_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (topic, partition, log_offset)
)`,
  `CREATE TABLE ${s}.consumer_group (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic integer NOT NULL REFERENCES ${s}.topic,
  name text COLLATE "C" NOT NULL,
  UNIQUE (topic, name)
)`,
  // Updated in place, once or twice per batch: room for HOT updates, and no index on what changes.
  `CREATE TABLE ${s}.cursor (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  id integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  settled bigint NOT NULL,
  claimed bigint NOT NULL,
  epoch bigint NOT NULL DEFAULT 0,
  holder text,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  PRIMARY KEY (consumer_group, partition)
) WITH (fillfactor = 50)`,
  `CREATE TABLE ${s}.member (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  id text NOT NULL,
  joined bigint GENERATED ALWAYS AS IDENTITY,
  alive_until timestamptz NOT NULL,
  PRIMARY KEY (consumer_group, id)
) WITH (fillfactor = 50)`,
  `CREATE TABLE ${s}.inbox (
  consumer_group integer NOT NULL,
  id text COLLATE "C" NOT NULL,
  outcome text NOT NULL,
  settled_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer_group, id)
)`,
  `CREATE TABLE ${s}.attempt (
  consumer_group integer NOT NULL,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  claims integer NOT NULL,
  failures integer NOT NULL,
  PRIMARY KEY (consumer_group, partition, log_offset)
)`,
  // Rule 19: kept aside with all that is needed to handle them, so that the log may be trimmed below the cursors.
  `CREATE TABLE ${s}.redelivery (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  key text COLLATE "C",
  headers text NOT NULL,
  published_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  ordered boolean NOT NULL DEFAULT true,
  due_at timestamptz,
  PRIMARY KEY (consumer_group, partition, log_offset)
)`,
  `CREATE TABLE ${s}.dead_letter (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  key text COLLATE "C",
  headers text NOT NULL,
  published_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  failure_tag text NOT NULL,
  failure_message text NOT NULL,
  failure_cause text NOT NULL,
  attempts integer NOT NULL,
  dead_at timestamptz NOT NULL,
  PRIMARY KEY (consumer_group, partition, log_offset)
)`
]

/** Topics, and the publish horizon (POSTGRES.md, section A). */
const logFunctions = ({ schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
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
    (SELECT max(greatest(c.settled, c.claimed))
      FROM ${s}.cursor c JOIN ${s}.consumer_group g ON g.id = c.consumer_group WHERE g.topic = p_topic)
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
  // Rules 2, 3, 4, 6, 8, 9.
  `CREATE FUNCTION ${s}.publish(
  p_topic integer, p_partitions smallint[], p_ids text[], p_keys text[], p_headers text[], p_times timestamptz[], p_payloads bytea[]
) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_sequence oid := ${s}.topic_sequence(p_topic);
  v_held text := coalesce(nullif(current_setting('surety.horizon', true), ''), ',');
BEGIN
  -- Shared, once per transaction and topic, before the first offset is drawn. The setting rolls back with the lock.
  IF position(',' || v_sequence || ',' IN v_held) = 0 THEN
    PERFORM pg_advisory_xact_lock_shared(
      v_sequence::bigint::bit(32)::integer,
      coalesce(pg_sequence_last_value(v_sequence::regclass), 0)::bit(32)::integer
    );
    PERFORM set_config('surety.horizon', v_held || v_sequence || ',', true);
  END IF;
  INSERT INTO ${s}.log (topic, partition, log_offset, id, key, headers, published_at, payload)
  SELECT p_topic, r.partition, nextval(v_sequence::regclass), r.id, nullif(r.key, '${nullText}'), r.headers, r.published_at, r.payload
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
  IF current_setting('transaction_isolation') <> 'read committed' OR pg_is_in_recovery() THEN
    RAISE EXCEPTION 'the log can only be read on the primary, in a READ COMMITTED transaction' USING ERRCODE = '${invalidStateCode}';
  END IF;
  v_last := coalesce(pg_sequence_last_value(v_sequence::regclass), 0);
  SELECT min(v_last + ((l.objid::bigint - (v_last & 4294967295) + 6442450944) & 4294967295) - 2147483648) INTO v_lowest
  FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = v_sequence
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
  RETURN least(v_last, v_lowest);
END ${body}`
]

/** Groups, leases and claims (sections A and B). */
const groupFunctions = ({ channel, schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
  // Rule 7: "latest" is the horizon, not the end of the sequence.
  `CREATE FUNCTION ${s}.register_group(p_topic integer, p_name text, p_from text) RETURNS integer LANGUAGE plpgsql AS ${body}
DECLARE
  v_group integer;
  v_settled bigint;
BEGIN
  SELECT id INTO v_group FROM ${s}.consumer_group WHERE topic = p_topic AND name = p_name;
  IF v_group IS NOT NULL THEN RETURN v_group; END IF;
  INSERT INTO ${s}.consumer_group (topic, name) VALUES (p_topic, p_name)
    ON CONFLICT (topic, name) DO NOTHING RETURNING id INTO v_group;
  IF v_group IS NULL THEN
    SELECT id INTO STRICT v_group FROM ${s}.consumer_group WHERE topic = p_topic AND name = p_name;
    RETURN v_group;
  END IF;
  v_settled := CASE p_from WHEN 'latest' THEN ${s}.horizon(p_topic) ELSE 0 END;
  INSERT INTO ${s}.cursor (consumer_group, partition, settled, claimed)
    SELECT v_group, p, v_settled, v_settled FROM ${s}.topic t, generate_series(0, t.partitions - 1) AS p WHERE t.id = p_topic;
  RETURN v_group;
END ${body}`,
  // What a member must not do beside another one of its group.
  `CREATE FUNCTION ${s}.lock_group(p_group integer) RETURNS void LANGUAGE plpgsql AS ${body}
BEGIN
  PERFORM set_config('lock_timeout', '2s', true);
  PERFORM pg_advisory_xact_lock(${literal(`${s}.consumer_group`)}::regclass::oid::bigint::bit(32)::integer, p_group);
END ${body}`,
  // Rule 15: leases go by clock_timestamp().
  `CREATE FUNCTION ${s}.heartbeat(p_group integer, p_member text, p_lease interval)
RETURNS TABLE (partitions integer[], epochs bigint[], members integer, rank integer, free integer, next_expiry double precision)
LANGUAGE plpgsql AS ${body}
#variable_conflict use_column
DECLARE
  v_now timestamptz;
  v_changed boolean;
  v_joined boolean;
BEGIN
  PERFORM ${s}.lock_group(p_group);
  v_now := clock_timestamp();
  DELETE FROM ${s}.member m WHERE m.consumer_group = p_group AND m.alive_until <= v_now AND m.id <> p_member;
  v_changed := FOUND;
  INSERT INTO ${s}.member AS m (consumer_group, id, alive_until) VALUES (p_group, p_member, v_now + p_lease)
    ON CONFLICT (consumer_group, id) DO UPDATE SET alive_until = excluded.alive_until
    RETURNING m.xmax = 0 INTO v_joined;
  UPDATE ${s}.cursor c SET lease_until = v_now + p_lease WHERE c.consumer_group = p_group AND c.holder = p_member;
  IF v_changed OR v_joined THEN PERFORM pg_notify(${literal(channel)}, 'g' || p_group); END IF;
  RETURN QUERY SELECT
    (SELECT coalesce(array_agg(c.partition::integer ORDER BY c.partition), '{}') FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.holder = p_member),
    (SELECT coalesce(array_agg(c.epoch ORDER BY c.partition), '{}') FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.holder = p_member),
    (SELECT count(*)::integer FROM ${s}.member m WHERE m.consumer_group = p_group),
    (SELECT count(*)::integer FROM ${s}.member m WHERE m.consumer_group = p_group
      AND m.joined < (SELECT joined FROM ${s}.member WHERE consumer_group = p_group AND id = p_member)),
    (SELECT count(*)::integer FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.lease_until <= v_now),
    (SELECT extract(epoch FROM min(u.until) - v_now)::double precision * 1000 FROM (
      SELECT c.lease_until AS until FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.holder <> p_member AND c.lease_until > v_now
      UNION ALL
      SELECT m.alive_until FROM ${s}.member m WHERE m.consumer_group = p_group AND m.id <> p_member
    ) AS u);
END ${body}`,
  // Rule 14. A role that may not signal another one's backends leaves it to idle_in_transaction_session_timeout.
  `CREATE FUNCTION ${s}.terminate(p_cursors integer[]) RETURNS void LANGUAGE plpgsql AS ${body}
BEGIN
  PERFORM pg_terminate_backend(l.pid) FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = ${literal(`${s}.cursor`)}::regclass::oid
    AND l.objid::bigint = ANY (p_cursors) AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'a frozen worker''s transaction cannot be terminated: grant pg_signal_backend to %', current_user;
END ${body}`,
  `CREATE FUNCTION ${s}.acquire(p_group integer, p_member text, p_lease interval, p_max integer)
RETURNS TABLE (id integer, partition smallint, epoch bigint, settled bigint, claimed bigint) LANGUAGE plpgsql AS ${body}
#variable_conflict use_column
DECLARE
  v_free integer[];
BEGIN
  PERFORM ${s}.lock_group(p_group);
  PERFORM ${s}.check_topic((SELECT g.topic FROM ${s}.consumer_group g WHERE g.id = p_group));
  SELECT array_agg(f.id) INTO v_free FROM (
    SELECT c.id FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.lease_until <= clock_timestamp()
    ORDER BY c.partition LIMIT p_max
  ) AS f;
  PERFORM ${s}.terminate(v_free);
  RETURN QUERY UPDATE ${s}.cursor c
    SET epoch = c.epoch + 1, holder = p_member, lease_until = clock_timestamp() + p_lease
    WHERE c.id = ANY (v_free)
    RETURNING c.id, c.partition, c.epoch, c.settled, c.claimed;
END ${body}`,
  // What the former holder began between the first termination and the new epoch's commit; later it is refused.
  `CREATE FUNCTION ${s}.sweep(p_cursors integer[], p_epochs bigint[]) RETURNS void LANGUAGE sql AS ${body}
  SELECT ${s}.terminate((
    SELECT array_agg(c.id) FROM unnest(p_cursors, p_epochs) AS h(id, epoch)
    JOIN ${s}.cursor c ON c.id = h.id AND c.epoch = h.epoch
  ))
${body}`,
  // Rules 1, 7 and 16: the claim is stored before the records are handed out. A row without an offset says that
  // there are records which an open publishing transaction holds back.
  `CREATE FUNCTION ${s}.claim(p_topic integer, p_group integer, p_partition integer, p_epoch bigint, p_after bigint, p_limit integer, p_bytes bigint)
RETURNS TABLE (
  log_offset bigint, id text, key text, headers text, published_at timestamptz, payload bytea, claims integer, failures integer
) LANGUAGE plpgsql VOLATILE AS ${body}
#variable_conflict use_column
DECLARE
  v_horizon bigint := ${s}.horizon(p_topic);
  v_last bigint;
BEGIN
  SELECT max(c.log_offset) INTO v_last FROM (
    SELECT b.log_offset, row_number() OVER w AS n, sum(b.bytes) OVER w AS bytes
    FROM (
      SELECT l.log_offset, octet_length(l.payload) AS bytes FROM ${s}.log l
      WHERE l.topic = p_topic AND l.partition = p_partition AND l.log_offset > p_after AND l.log_offset <= v_horizon
      ORDER BY l.log_offset LIMIT p_limit
    ) AS b
    WINDOW w AS (ORDER BY b.log_offset)
  ) AS c WHERE c.n = 1 OR c.bytes <= p_bytes;
  IF v_last IS NULL THEN
    IF EXISTS (SELECT FROM ${s}.log l WHERE l.topic = p_topic AND l.partition = p_partition AND l.log_offset > p_after) THEN
      RETURN QUERY SELECT NULL::bigint, NULL::text, NULL::text, NULL::text, NULL::timestamptz, NULL::bytea, NULL::integer, NULL::integer;
    END IF;
    RETURN;
  END IF;
  UPDATE ${s}.cursor c SET claimed = greatest(c.claimed, v_last)
    WHERE c.consumer_group = p_group AND c.partition = p_partition AND c.epoch = p_epoch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'epoch % no longer holds the partition', p_epoch USING ERRCODE = '${fencedCode}';
  END IF;
  RETURN QUERY SELECT l.log_offset, l.id, l.key, l.headers, l.published_at, l.payload, a.claims, a.failures
    FROM ${s}.log l
    LEFT JOIN ${s}.attempt a ON a.consumer_group = p_group AND a.partition = l.partition AND a.log_offset = l.log_offset
    WHERE l.topic = p_topic AND l.partition = p_partition AND l.log_offset > p_after AND l.log_offset <= v_last
    ORDER BY l.log_offset;
END ${body}`,
  // Rule 14: the first statement of a settling transaction registers its backend. Null when the epoch is over.
  `CREATE FUNCTION ${s}.begin_settlement(p_topic text, p_group text, p_partition integer, p_epoch bigint) RETURNS integer LANGUAGE plpgsql AS ${body}
DECLARE
  v_group integer;
  v_cursor integer;
  v_epoch bigint;
BEGIN
  SELECT g.id, c.id INTO v_group, v_cursor
  FROM ${s}.topic t JOIN ${s}.consumer_group g ON g.topic = t.id JOIN ${s}.cursor c ON c.consumer_group = g.id
  WHERE t.name = p_topic AND g.name = p_group AND c.partition = p_partition;
  IF v_cursor IS NULL THEN
    RAISE EXCEPTION 'group "%" of topic "%" is not registered', p_group, p_topic USING ERRCODE = '${invalidStateCode}';
  END IF;
  PERFORM pg_advisory_xact_lock_shared(${literal(`${s}.cursor`)}::regclass::oid::bigint::bit(32)::integer, v_cursor);
  SELECT c.epoch INTO v_epoch FROM ${s}.cursor c WHERE c.id = v_cursor;
  IF v_epoch <> p_epoch THEN RETURN NULL; END IF;
  IF current_setting('idle_in_transaction_session_timeout') = '0' THEN
    PERFORM set_config('idle_in_transaction_session_timeout', '1h', true);
  END IF;
  RETURN v_group;
END ${body}`
]

export const migrations: ReadonlyArray<Migration> = [
  {
    id: 1,
    name: "log_groups_inbox",
    statements: (names) => [...tables(names), ...logFunctions(names), ...groupFunctions(names)]
  }
]

export const latest: number = migrations[migrations.length - 1]!.id
