-- What the functions may do, and how long the server lets them. The time-outs are settings of the role, because a proxy refuses
-- those of a connection's start and keeps a connection for whoever sets one later.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast_app') THEN
    CREATE ROLE holdfast_app LOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  -- Another database of this server is migrated at the same time.
  NULL;
END $$;

DO $$
BEGIN
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO holdfast_app', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO holdfast_app', current_schema());
  EXECUTE format('GRANT USAGE ON SEQUENCE %s TO holdfast_app', pg_get_serial_sequence('bookings', 'id'));
  EXECUTE format('ALTER ROLE holdfast_app IN DATABASE %I SET statement_timeout = ''5s''', current_database());
  EXECUTE format('ALTER ROLE holdfast_app IN DATABASE %I SET lock_timeout = ''2s''', current_database());
  EXECUTE format('ALTER ROLE holdfast_app IN DATABASE %I SET idle_in_transaction_session_timeout = ''10s''', current_database());
END $$;

GRANT SELECT ON users, rooms TO holdfast_app;
GRANT SELECT, INSERT, UPDATE ON bookings TO holdfast_app;
GRANT USAGE ON SCHEMA holdfast TO holdfast_app;
GRANT SELECT, INSERT, UPDATE ON holdfast.inbox TO holdfast_app;
GRANT SELECT ON holdfast.migration TO holdfast_app;
