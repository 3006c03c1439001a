//! How the server finds rows: by their keys, however few of them it believes there are. A plan that goes through a table for
//! each record of a batch is fast in a test of some rows, and slower with all that is booked until the planner hears of it.

use serde_json::json;

use crate::house::{House, JANE, booking_with, cancellation, eventually, outcomes};

/// More transactions than PostgreSQL plans anew before it keeps the plan of a prepared statement.
const BATCHES: usize = 7;

/// The sessions of the functions; what they count is told when they end.
const SESSIONS: &str = "FROM pg_stat_activity WHERE application_name LIKE 'booking-%' AND datname = current_database()";

#[tokio::test]
async fn no_booking_is_written_by_a_look_through_all_that_is_booked() {
    for statements in ["unnamed", "prepared"] {
        let Some(house) = House::open_with(&[("DB_STATEMENTS", statements.to_owned())]).await else { return };
        house.run("SELECT pg_stat_reset()").await;
        for batch in 0..BATCHES {
            let (lands, is_late) = (format!("a{batch}"), format!("b{batch}"));
            let (from, to) = (format!("2026-07-{:02}", 2 * batch + 1), format!("2026-07-{:02}", 2 * batch + 3));
            let stay = |id: &str, room| booking_with(id, json!({"roomId": room, "startDate": from, "endDate": to}));
            house.cancel([cancellation(&is_late, JANE)]).await[0].is("early");
            let ended = house.book([stay(&lands, "101"), stay(&is_late, "102")]).await;
            assert_eq!(outcomes(&ended), ["success"; 2]);
            let ended = house.book([stay(&lands, "101"), stay(&is_late, "103")]).await;
            assert_eq!(outcomes(&ended), ["duplicate", "rejected"]);
            let ended = house.cancel([cancellation(&lands, JANE), cancellation(&lands, JANE)]).await;
            assert_eq!(outcomes(&ended), ["success", "duplicate"]);
        }

        house.run(&format!("SELECT pg_terminate_backend(pid) {SESSIONS}")).await;
        eventually("the end of each session", async || {
            house.texts(&format!("SELECT pid::text {SESSIONS}")).await.is_empty()
        })
        .await;
        let counted = async |what: &str| {
            let of = "FROM pg_stat_user_tables WHERE relname IN ('bookings', 'inbox') ORDER BY relname";
            house.texts(&format!("SELECT relname || ' ' || {what} {of}")).await
        };
        assert_eq!(counted("(idx_scan > 0)").await, ["bookings true", "inbox true"], "{statements}: looks by a key");
        assert_eq!(counted("seq_scan").await, ["bookings 0", "inbox 0"], "{statements}: looks from end to end");
    }
}
