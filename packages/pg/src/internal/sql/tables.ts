/** The tables. */
import type { Names } from "./common.ts"

/** What a record is made of, wherever it is stored. */
const record = `id text COLLATE "C" NOT NULL,
  key text COLLATE "C",
  headers text NOT NULL,
  published_at timestamptz NOT NULL,
  payload bytea NOT NULL`

/** Retention deletes from large tables all the time: vacuumed at 5 % of dead rows, where the server's default is 20. */
const deletedFrom = "WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)"

export const tables = ({ schema: s }: Names): ReadonlyArray<string> => [
  `CREATE TABLE ${s}.topic (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 1024),
  hash text NOT NULL DEFAULT 'fnv1a',
  -- No other topic has it, of whatever schema, database or server.
  identity uuid NOT NULL DEFAULT gen_random_uuid()
)`,
  `CREATE TABLE ${s}.log (
  topic integer NOT NULL,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  ${record},
  stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (topic, partition, log_offset)
) ${deletedFrom}`,
  // The last offset that retention has dropped.
  `CREATE TABLE ${s}.trimmed (
  topic integer NOT NULL,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  PRIMARY KEY (topic, partition)
)`,
  // What becomes readable later, by due time, then in publish order.
  `CREATE TABLE ${s}.delayed (
  topic integer NOT NULL,
  due_at timestamptz NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  partition smallint NOT NULL,
  ${record},
  PRIMARY KEY (topic, due_at, seq)
)`,
  `CREATE TABLE ${s}.consumer_group (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic integer NOT NULL REFERENCES ${s}.topic,
  name text COLLATE "C" NOT NULL,
  UNIQUE (topic, name)
)`,
  // Rule 13: how far a group has come, and who may say so. Updated in place by settlements and takeovers, and by nothing else:
  // under a stricter isolation a settlement fails when the row has changed since its transaction began.
  `CREATE TABLE ${s}.cursor (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  id integer GENERATED ALWAYS AS IDENTITY UNIQUE,
  settled bigint NOT NULL,
  epoch bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (consumer_group, partition)
) WITH (fillfactor = 50)`,
  // Who serves a partition, under which epoch, until when, and how far it has claimed.
  `CREATE TABLE ${s}.lease (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  epoch bigint NOT NULL DEFAULT 0,
  holder text,
  expires_at timestamptz NOT NULL DEFAULT '-infinity',
  claimed bigint NOT NULL,
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
) ${deletedFrom}`,
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
  ${record},
  ordered boolean NOT NULL DEFAULT true,
  due_at timestamptz,
  stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer_group, partition, log_offset)
)`,
  `CREATE TABLE ${s}.dead_letter (
  consumer_group integer NOT NULL REFERENCES ${s}.consumer_group,
  partition smallint NOT NULL,
  log_offset bigint NOT NULL,
  ${record},
  failure_tag text NOT NULL,
  failure_message text NOT NULL,
  failure_cause text NOT NULL,
  attempts integer NOT NULL,
  dead_at timestamptz NOT NULL,
  PRIMARY KEY (consumer_group, partition, log_offset)
)`,
  // How far the background work has come: the row is its lock, its pace and its place.
  `CREATE TABLE ${s}.sweep (
  task text PRIMARY KEY,
  position bigint NOT NULL DEFAULT 0,
  done_at timestamptz NOT NULL DEFAULT to_timestamp(0)
) WITH (fillfactor = 50)`,
  `INSERT INTO ${s}.sweep (task) VALUES ('log'), ('inbox'), ('space')`
]
