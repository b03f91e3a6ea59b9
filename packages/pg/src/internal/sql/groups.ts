/** Groups, leases and claims (POSTGRES.md, sections A and B). */
import { bodyQuote, fencedCode, invalidStateCode, literal, type Names, refusedCode } from "./common.ts"

export const groupFunctions = ({ channel, schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
  // Those that the group has already stay as they are.
  `CREATE FUNCTION ${s}.add_partitions(p_group integer, p_partitions integer[], p_settled bigint[]) RETURNS void LANGUAGE sql AS ${body}
  WITH added AS (
    INSERT INTO ${s}.cursor (consumer_group, partition, settled)
    SELECT p_group, u.partition, u.settled FROM unnest(p_partitions, p_settled) AS u(partition, settled)
    ON CONFLICT (consumer_group, partition) DO NOTHING RETURNING partition, settled
  )
  INSERT INTO ${s}.lease (consumer_group, partition, claimed) SELECT p_group, partition, settled FROM added
${body}`,
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
  PERFORM ${s}.add_partitions(v_group, array_agg(p), array_agg(v_settled))
    FROM ${s}.topic t, generate_series(0, t.partitions - 1) AS p WHERE t.id = p_topic;
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
  IF NOT EXISTS (SELECT FROM ${s}.consumer_group g WHERE g.id = p_group) THEN
    RAISE EXCEPTION 'the group was dropped while this member was silent' USING ERRCODE = '${refusedCode}';
  END IF;
  v_now := clock_timestamp();
  DELETE FROM ${s}.member m WHERE m.consumer_group = p_group AND m.alive_until <= v_now AND m.id <> p_member;
  v_changed := FOUND;
  INSERT INTO ${s}.member AS m (consumer_group, id, alive_until) VALUES (p_group, p_member, v_now + p_lease)
    ON CONFLICT (consumer_group, id) DO UPDATE SET alive_until = excluded.alive_until
    RETURNING m.xmax = 0 INTO v_joined;
  UPDATE ${s}.lease e SET expires_at = v_now + p_lease WHERE e.consumer_group = p_group AND e.holder = p_member;
  IF v_changed OR v_joined THEN PERFORM pg_notify(${literal(channel)}, 'g' || p_group); END IF;
  RETURN QUERY SELECT
    (SELECT coalesce(array_agg(e.partition::integer ORDER BY e.partition), '{}') FROM ${s}.lease e WHERE e.consumer_group = p_group AND e.holder = p_member),
    (SELECT coalesce(array_agg(e.epoch ORDER BY e.partition), '{}') FROM ${s}.lease e WHERE e.consumer_group = p_group AND e.holder = p_member),
    (SELECT count(*)::integer FROM ${s}.member m WHERE m.consumer_group = p_group),
    (SELECT count(*)::integer FROM ${s}.member m WHERE m.consumer_group = p_group
      AND m.joined < (SELECT joined FROM ${s}.member WHERE consumer_group = p_group AND id = p_member)),
    (SELECT count(*)::integer FROM ${s}.lease e WHERE e.consumer_group = p_group AND e.expires_at <= v_now),
    (SELECT extract(epoch FROM min(u.until) - v_now)::double precision * 1000 FROM (
      SELECT e.expires_at AS until FROM ${s}.lease e WHERE e.consumer_group = p_group AND e.holder <> p_member AND e.expires_at > v_now
      UNION ALL
      SELECT m.alive_until FROM ${s}.member m WHERE m.consumer_group = p_group AND m.id <> p_member
    ) AS u);
END ${body}`,
  `CREATE FUNCTION ${s}.leave(p_group integer, p_member text, p_holding boolean) RETURNS void LANGUAGE plpgsql AS ${body}
BEGIN
  DELETE FROM ${s}.member m WHERE m.consumer_group = p_group AND m.id = p_member;
  IF NOT p_holding THEN
    UPDATE ${s}.lease e SET holder = NULL, expires_at = '-infinity' WHERE e.consumer_group = p_group AND e.holder = p_member;
  END IF;
  PERFORM pg_notify(${literal(channel)}, 'g' || p_group);
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
    SELECT c.id FROM ${s}.lease e JOIN ${s}.cursor c ON c.consumer_group = e.consumer_group AND c.partition = e.partition
    WHERE e.consumer_group = p_group AND e.expires_at <= clock_timestamp() ORDER BY e.partition LIMIT p_max
  ) AS f;
  PERFORM ${s}.terminate(v_free);
  RETURN QUERY WITH raised AS (
    UPDATE ${s}.cursor c SET epoch = c.epoch + 1 WHERE c.id = ANY (v_free)
    RETURNING c.id, c.consumer_group, c.partition, c.epoch, c.settled
  )
  UPDATE ${s}.lease e SET epoch = r.epoch, holder = p_member, expires_at = clock_timestamp() + p_lease
    FROM raised r WHERE e.consumer_group = r.consumer_group AND e.partition = r.partition
    RETURNING r.id, r.partition, r.epoch, r.settled, e.claimed;
END ${body}`,
  // Rule 24: a group of another transport's topic, which has no log here. A partition goes on after what was settled there
  // when this schema first heard of it, and after what is settled here from then on.
  `CREATE FUNCTION ${s}.adopt_group(p_topic text, p_name text, p_partitions integer[], p_settled bigint[])
RETURNS TABLE (topic integer, consumer_group integer) LANGUAGE plpgsql AS ${body}
#variable_conflict use_column
DECLARE
  v_topic integer;
  v_group integer;
BEGIN
  INSERT INTO ${s}.topic (name, partitions) SELECT p_topic, cardinality(p_partitions)
    WHERE NOT EXISTS (SELECT FROM ${s}.topic WHERE name = p_topic) ON CONFLICT (name) DO NOTHING;
  SELECT t.id INTO STRICT v_topic FROM ${s}.topic t WHERE t.name = p_topic;
  INSERT INTO ${s}.consumer_group (topic, name) SELECT v_topic, p_name
    WHERE NOT EXISTS (SELECT FROM ${s}.consumer_group WHERE topic = v_topic AND name = p_name) ON CONFLICT (topic, name) DO NOTHING;
  SELECT g.id INTO STRICT v_group FROM ${s}.consumer_group g WHERE g.topic = v_topic AND g.name = p_name;
  PERFORM ${s}.add_partitions(v_group, p_partitions, p_settled);
  RETURN QUERY SELECT v_topic, v_group;
END ${body}`,
  // Whoever the other transport has given a partition to: what an earlier holder has open is ended, as by acquire.
  `CREATE FUNCTION ${s}.adopt(p_group integer, p_partition integer, p_settled bigint)
RETURNS TABLE (id integer, partition smallint, epoch bigint, settled bigint, claimed bigint) LANGUAGE plpgsql AS ${body}
#variable_conflict use_column
BEGIN
  PERFORM ${s}.add_partitions(p_group, ARRAY[p_partition], ARRAY[p_settled]);
  PERFORM ${s}.terminate(ARRAY(SELECT c.id FROM ${s}.cursor c WHERE c.consumer_group = p_group AND c.partition = p_partition));
  RETURN QUERY WITH raised AS (
    UPDATE ${s}.cursor c SET epoch = c.epoch + 1 WHERE c.consumer_group = p_group AND c.partition = p_partition
    RETURNING c.id, c.consumer_group, c.partition, c.epoch, c.settled
  )
  UPDATE ${s}.lease e SET epoch = r.epoch
    FROM raised r WHERE e.consumer_group = r.consumer_group AND e.partition = r.partition
    RETURNING r.id, r.partition, r.epoch, r.settled, e.claimed;
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
  UPDATE ${s}.lease e SET claimed = greatest(e.claimed, v_last)
    WHERE e.consumer_group = p_group AND e.partition = p_partition AND e.epoch = p_epoch;
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
