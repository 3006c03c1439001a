-- One row per booking that an event has told of: what became of it, and what came before it.

CREATE TABLE holdfast.inbox (
  booking_id text PRIMARY KEY,
  -- Of the event that created it; nothing while only cancellations have come.
  payload_hash bytea,
  -- The status that the booking was written with; nothing while it is not written.
  outcome text,
  -- The users that have cancelled it before it came. Whose it is nobody knows until then.
  cancelled_by integer[],
  -- The times of day, where the event had them. The dates are the booking's.
  starts_at timestamptz,
  ends_at timestamptz,
  -- When others were told that it is refused.
  refund_requested_at timestamptz,
  source text,
  trace_id text,
  recorded_at timestamptz NOT NULL DEFAULT now()
);

-- For the cleaning.
CREATE INDEX inbox_recorded_at ON holdfast.inbox (recorded_at);
