/** Retention (POSTGRES.md, rules 20 and 22), and groups that are gone. */
import { bodyQuote, byIndex, literal, type Names, refusedCode } from "./common.ts"

const maxOffset = "9223372036854775807"

export const retentionFunctions = ({ channel, schema: s }: Names, body = bodyQuote(s)): ReadonlyArray<string> => [
  // Whose turn it is: locks the row of the task, so that one process at a time has it. Returns for how many milliseconds
  // the task rests; zero when it is to be gone on with, null while another process is at it.
  `CREATE FUNCTION ${s}.begin_sweep(p_task text, p_rest interval) RETURNS double precision LANGUAGE plpgsql AS ${body}
DECLARE
  v_rest interval;
BEGIN
  SELECT p_rest - (clock_timestamp() - w.done_at) INTO v_rest FROM ${s}.sweep w WHERE w.task = p_task FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN NULL; END IF;
  -- Longer than the rest itself only when the clock was set back.
  IF v_rest <= '0' OR v_rest > p_rest THEN RETURN 0; END IF;
  RETURN extract(epoch FROM v_rest)::double precision * 1000;
END ${body}`,
  // Rule 20: nothing above the lowest cursor of any group, alive or not. The bound and the rows are of one snapshot: a group
  // whose cursor it does not see yet was promised none of the rows that it sees.
  `CREATE FUNCTION ${s}.trim_log(p_keep interval, p_rest interval, p_limit integer) RETURNS double precision LANGUAGE plpgsql VOLATILE ${byIndex} AS ${body}
DECLARE
  v_rest double precision := ${s}.begin_sweep('log', p_rest);
  v_before timestamptz := clock_timestamp() - p_keep;
  v_count integer;
BEGIN
  IF v_rest IS NULL OR v_rest > 0 THEN RETURN v_rest; END IF;
  WITH head AS (
    SELECT t.id AS topic, p.partition, b.reached
    FROM ${s}.topic t
    CROSS JOIN LATERAL generate_series(0, t.partitions - 1) AS p(partition)
    CROSS JOIN LATERAL (
      SELECT coalesce(min(c.settled), ${maxOffset}) AS reached
      FROM ${s}.consumer_group g JOIN ${s}.cursor c ON c.consumer_group = g.id
      WHERE g.topic = t.id AND c.partition = p.partition
    ) AS b
    WHERE (
      SELECT l.stored_at FROM ${s}.log l WHERE l.topic = t.id AND l.partition = p.partition ORDER BY l.log_offset LIMIT 1
    ) < v_before
  ),
  old AS (
    SELECT h.topic, h.partition, o.log_offset FROM head h CROSS JOIN LATERAL (
      SELECT l.log_offset, l.stored_at FROM ${s}.log l
      WHERE l.topic = h.topic AND l.partition = h.partition AND l.log_offset <= h.reached
      ORDER BY l.log_offset LIMIT p_limit
    ) AS o
    WHERE o.stored_at < v_before LIMIT p_limit
  ),
  dropped AS (
    DELETE FROM ${s}.log l USING old o
    WHERE l.topic = o.topic AND l.partition = o.partition AND l.log_offset = o.log_offset
    RETURNING l.topic, l.partition, l.log_offset
  ),
  noted AS (
    INSERT INTO ${s}.trimmed AS t (topic, partition, log_offset)
    SELECT d.topic, d.partition, max(d.log_offset) FROM dropped d GROUP BY d.topic, d.partition
    ON CONFLICT (topic, partition) DO UPDATE SET log_offset = greatest(t.log_offset, excluded.log_offset)
  )
  SELECT count(*) INTO v_count FROM dropped;
  IF v_count = p_limit THEN RETURN 0; END IF;
  UPDATE ${s}.sweep SET done_at = clock_timestamp() WHERE task = 'log';
  RETURN extract(epoch FROM p_rest)::double precision * 1000;
END ${body}`,
  // Rule 22: a batch of blocks of the table, which needs no index that every settlement would pay for. Kept: what a group
  // settled within its retention of the oldest message that it has not settled yet, parked ones included, since that may be
  // a copy; what a redrive has opened; and the ids of dead letters, for as long as the group has any.
  `CREATE FUNCTION ${s}.trim_inbox(p_keep interval, p_rest interval, p_blocks bigint) RETURNS double precision LANGUAGE plpgsql VOLATILE ${byIndex} AS ${body}
DECLARE
  v_rest double precision := ${s}.begin_sweep('inbox', p_rest);
  v_blocks bigint := pg_relation_size(${literal(`${s}.inbox`)}::regclass) / current_setting('block_size')::bigint;
  v_position bigint;
  v_from tid;
  v_to tid;
BEGIN
  IF v_rest IS NULL OR v_rest > 0 THEN RETURN v_rest; END IF;
  SELECT w.position INTO v_position FROM ${s}.sweep w WHERE w.task = 'inbox';
  v_from := format('(%s,0)', v_position)::tid;
  v_to := format('(%s,0)', v_position + p_blocks)::tid;
  WITH bound AS (
    SELECT g.id AS consumer_group, EXISTS (SELECT FROM ${s}.dead_letter d WHERE d.consumer_group = g.id) AS has_dead,
      least(
        clock_timestamp(),
        (SELECT min(n.stored_at) FROM ${s}.cursor c CROSS JOIN LATERAL (
          SELECT l.stored_at FROM ${s}.log l
          WHERE l.topic = g.topic AND l.partition = c.partition AND l.log_offset > c.settled ORDER BY l.log_offset LIMIT 1
        ) AS n WHERE c.consumer_group = g.id),
        (SELECT min(r.stored_at) FROM ${s}.redelivery r WHERE r.consumer_group = g.id)
      ) - p_keep AS before
    FROM ${s}.consumer_group g JOIN ${s}.topic t ON t.id = g.topic
    -- How long a copy may wait in another transport's log is not known here.
    WHERE strpos(t.name, ':') = 0
  )
  DELETE FROM ${s}.inbox i USING bound b
  WHERE i.ctid >= v_from AND i.ctid < v_to AND b.consumer_group = i.consumer_group AND i.settled_at < b.before
    AND (i.outcome IN ('handled', 'discarded') OR i.outcome = 'dead' AND NOT b.has_dead);
  IF v_position + p_blocks < v_blocks THEN
    UPDATE ${s}.sweep SET position = v_position + p_blocks WHERE task = 'inbox';
    RETURN 0;
  END IF;
  UPDATE ${s}.sweep SET position = 0, done_at = clock_timestamp() WHERE task = 'inbox';
  RETURN extract(epoch FROM p_rest)::double precision * 1000;
END ${body}`,
  // The pages of an index that deletions have emptied are used again and never given back: statements that build those anew
  // which are several times as large as their entries need, of tables that are the role's own; and that drop what is left of
  // such a one that did not end. VACUUM says how many rows there are: before it, none of their entries are gone.
  `CREATE FUNCTION ${s}.reclaim(p_rest interval) RETURNS SETOF text LANGUAGE plpgsql VOLATILE AS ${body}
DECLARE
  v_rest double precision;
BEGIN
  -- The turn is for who can make use of it. Up to 14.3, REINDEX CONCURRENTLY may leave entries out.
  IF current_setting('server_version_num')::integer < 140004
    OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = ${literal(`${s}.log`)}::regclass AND pg_has_role(c.relowner, 'USAGE'))
  THEN RETURN; END IF;
  v_rest := ${s}.begin_sweep('space', p_rest);
  IF v_rest IS NULL OR v_rest > 0 THEN RETURN; END IF;
  UPDATE ${s}.sweep SET done_at = clock_timestamp() WHERE task = 'space';
  RETURN QUERY SELECT format(
      CASE WHEN i.indisvalid THEN 'REINDEX INDEX CONCURRENTLY %I.%I' ELSE 'DROP INDEX CONCURRENTLY %I.%I' END, n.nspname, x.relname
    )
    FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
    CROSS JOIN LATERAL (
      SELECT greatest(c.reltuples, pg_stat_get_live_tuples(c.oid)) AS entries, (
        SELECT coalesce(sum(w.avg_width), 0) FROM pg_attribute a
        JOIN pg_stats w ON w.schemaname = n.nspname AND w.tablename = c.relname AND w.attname = a.attname
        WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
      ) AS width
    ) AS t
    WHERE n.oid = ${literal(s)}::regnamespace AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
      -- Two at once on one table deadlock, and what is being built is not left over: that holds this lock from its begin to its end.
      AND NOT EXISTS (
        SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = c.oid AND l.mode = 'ShareUpdateExclusiveLock'
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      )
      AND CASE WHEN i.indisvalid
        THEN c.reltuples >= 0 AND pg_relation_size(x.oid) > 65536 + 4 * t.entries * (t.width + 24)
        ELSE x.relname ~ '_cc(new|old)[0-9]*$'
      END
    ORDER BY i.indisvalid;
END ${body}`,
  // The cursors go first: what a holder is just committing waits for that, and is seen by the statements after it.
  `CREATE FUNCTION ${s}.drop_group(p_topic text, p_name text) RETURNS void LANGUAGE plpgsql AS ${body}
DECLARE
  v_group integer;
  v_members integer;
BEGIN
  SELECT g.id INTO v_group FROM ${s}.topic t JOIN ${s}.consumer_group g ON g.topic = t.id WHERE t.name = p_topic AND g.name = p_name;
  IF v_group IS NOT NULL THEN
    PERFORM ${s}.lock_group(v_group);
    SELECT g.id INTO v_group FROM ${s}.consumer_group g WHERE g.id = v_group;
  END IF;
  IF v_group IS NULL THEN
    RAISE EXCEPTION 'group "%" of topic "%" is not registered', p_name, p_topic USING ERRCODE = '${refusedCode}';
  END IF;
  SELECT count(*) INTO v_members FROM ${s}.member m WHERE m.consumer_group = v_group AND m.alive_until > clock_timestamp();
  IF v_members > 0 THEN
    RAISE EXCEPTION 'group "%" of topic "%" has % live members: stop its consumers, or wait until their leases are over', p_name, p_topic, v_members
      USING ERRCODE = '${refusedCode}';
  END IF;
  PERFORM ${s}.terminate((SELECT array_agg(c.id) FROM ${s}.cursor c WHERE c.consumer_group = v_group));
  DELETE FROM ${s}.cursor WHERE consumer_group = v_group;
  DELETE FROM ${s}.lease WHERE consumer_group = v_group;
  DELETE FROM ${s}.member WHERE consumer_group = v_group;
  DELETE FROM ${s}.attempt WHERE consumer_group = v_group;
  DELETE FROM ${s}.redelivery WHERE consumer_group = v_group;
  DELETE FROM ${s}.dead_letter WHERE consumer_group = v_group;
  DELETE FROM ${s}.inbox WHERE consumer_group = v_group;
  DELETE FROM ${s}.consumer_group WHERE id = v_group;
  PERFORM pg_notify(${literal(channel)}, 'g' || v_group);
END ${body}`
]
