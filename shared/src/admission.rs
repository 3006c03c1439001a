//! Admission: the right of one customer to make one reservation of a show whose tickets are given out in line. The waiting room
//! states it in a [`token`], and the reservation API believes nothing else.

pub mod token;

/// The first letters of a reservation's id.
const RESERVATION: &str = "rsv_";

/// The right of a customer to make one reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The customer.
    pub user_id: String,
    /// The show that the tickets are for.
    pub show_id: String,
    /// The customer's item in the waiting room: `[a-z0-9_]`.
    pub queue_item_id: String,
    /// His place in the line, from 1.
    pub position: u64,
    /// The how manieth token of this place it is.
    pub call: u32,
    /// The tickets that he may reserve with it at most.
    pub most_tickets: u32,
    /// When it was given, in milliseconds since the epoch. A token has whole seconds.
    pub issued_at: u64,
    /// Until when a reservation can begin by it, in milliseconds since the epoch. A token has whole seconds.
    pub expires_at: u64,
}

/// Why a token admits nobody to what is wished for. The texts fit after "the reservation token".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not a token of ours. Which of its parts is wrong helps nobody but a forger.
    #[error("was not given out by the waiting room")]
    NotOurs,
    /// It is another customer's.
    #[error("is another customer's")]
    OtherUser,
    /// It is for another show.
    #[error("is for another event")]
    OtherShow,
    /// Its time is over.
    #[error("has expired; ask the waiting room for your place")]
    Expired,
}

impl Admission {
    /// What its token is called: one place has one name for each of its calls.
    pub fn token_id(&self) -> String {
        token_id(&self.queue_item_id, self.position, self.call)
    }

    /// The only reservation that can be made by it.
    pub fn reservation_id(&self) -> String {
        reservation_id(&self.queue_item_id, self.position, self.call)
    }

    /// Whether it is this customer's, and for this show.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, user_id: &str, show_id: &str) -> Result<(), Denied> {
        if self.user_id != user_id {
            Err(Denied::OtherUser)
        } else if self.show_id != show_id {
            Err(Denied::OtherShow)
        } else {
            Ok(())
        }
    }

    /// Whether no reservation can begin by it any more at `now`, in milliseconds since the epoch.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.expires_at
    }
}

/// The only reservation that can be made by the token of this call of a place, so that whoever gives tokens can ask for it.
pub fn reservation_id(queue_item_id: &str, position: u64, call: u32) -> String {
    format!("{RESERVATION}{}", token_id(queue_item_id, position, call))
}

fn token_id(queue_item_id: &str, position: u64, call: u32) -> String {
    format!("{queue_item_id}_{position}_{call}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_one_customer_s_for_one_show_until_its_end() {
        let right = token::tests::admission();
        assert_eq!(right.admits("usr_1", "evt_1"), Ok(()));
        assert_eq!(right.admits("usr_2", "evt_1"), Err(Denied::OtherUser));
        assert_eq!(right.admits("", "evt_1"), Err(Denied::OtherUser));
        assert_eq!(right.admits("usr_1", "evt_2"), Err(Denied::OtherShow));
        assert!(!right.is_over(right.expires_at - 1) && right.is_over(right.expires_at));
    }

    #[test]
    fn each_call_of_a_place_has_a_reservation_of_its_own() {
        let right = token::tests::admission();
        assert_eq!(right.reservation_id(), format!("rsv_{}", right.token_id()));
        assert_eq!(right.reservation_id(), "rsv_q1abc_17_2");
        assert_ne!(right.reservation_id(), Admission { call: 3, ..right }.reservation_id());
    }
}
