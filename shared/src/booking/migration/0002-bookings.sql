-- A booking has its event's id, and no two accepted ones share a day of a room. Nothing else of the original's tables changes,
-- so that its other service goes on as before. All of it waits for the table alone, and looks at every row of it.

CREATE EXTENSION IF NOT EXISTS btree_gist;

ALTER TABLE bookings
  ADD COLUMN booking_id text,
  ADD CONSTRAINT bookings_booking_id_key UNIQUE (booking_id),
  ADD CONSTRAINT bookings_no_overlap
    EXCLUDE USING gist (room_id WITH =, daterange(start_date, end_date, '[)') WITH &&) WHERE (status = 'Accepted');
