"""A consumer of bookings as one writes it in Python with psycopg, for `cargo bench` to be held against.

It reads events from standard input, one JSON object a line, writes them in batches of the given size, and prints the seconds and
the processor time that this took. A batch of one is the plain way: a commit for each record. Larger ones go through pipeline
mode, in one transaction with an inbox.
"""

import json
import sys
import time

import psycopg

USER = "SELECT id FROM users WHERE email = %(userId)s OR username = %(userId)s"
ROOM = "SELECT id FROM rooms WHERE internal_id = %(roomId)s"
BOOKING = """
INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, payment_id, status)
VALUES (%(bookingId)s, %(user)s, %(room)s, %(guests)s, %(startDate)s::date, %(endDate)s::date, %(paymentId)s, 'Accepted')"""

INBOX = "INSERT INTO holdfast.inbox (booking_id) VALUES (%(bookingId)s) ON CONFLICT (booking_id) DO NOTHING"
IN_ONE = """
INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, payment_id, status)
SELECT %(bookingId)s, u.id, r.id, %(guests)s, %(startDate)s::date, %(endDate)s::date, %(paymentId)s, 'Accepted'
FROM users u, rooms r, holdfast.inbox i
WHERE (u.email = %(userId)s OR u.username = %(userId)s) AND r.internal_id = %(roomId)s
  AND i.booking_id = %(bookingId)s AND i.outcome IS NULL
ON CONFLICT DO NOTHING"""
DONE = """
UPDATE holdfast.inbox i SET outcome = b.status FROM bookings b
WHERE b.booking_id = i.booking_id AND i.booking_id = %(bookingId)s AND i.outcome IS NULL"""


def plain(connection, event):
    with connection.cursor() as cursor:
        event["user"] = cursor.execute(USER, event).fetchone()[0]
        event["room"] = cursor.execute(ROOM, event).fetchone()[0]
        cursor.execute(BOOKING, event)
    connection.commit()


def pipeline(connection, batch):
    with connection.pipeline(), connection.cursor() as cursor:
        for event in sorted(batch, key=lambda event: event["bookingId"]):
            cursor.execute(INBOX, event, prepare=True)
        for event in sorted(batch, key=lambda event: (event["roomId"], event["startDate"])):
            cursor.execute(IN_ONE, event, prepare=True)
        for event in batch:
            cursor.execute(DONE, event, prepare=True)
        connection.commit()


def main():
    size = int(sys.argv[1])
    events = [json.loads(line) for line in sys.stdin]
    # The variables of libpq say where the database is.
    with psycopg.connect() as connection:
        started, used = time.perf_counter(), time.process_time()
        if size == 1:
            for event in events:
                plain(connection, event)
        else:
            for first in range(0, len(events), size):
                pipeline(connection, events[first : first + size])
        seconds, processor = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"seconds": seconds, "processor": processor}))


main()
