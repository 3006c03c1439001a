//! The page of the waiting room, in a browser, against the real functions: what a person sees on the way from the end of the
//! line to his tickets, and what he sees when it goes otherwise.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use local_stack::{build::workspace, ring::Ring};
use serde_json::{Value, json};
use shared::{
    deadline::{epoch_ms, moment},
    waiting_room::draw::Draw,
};
use tokio::time::{Instant, sleep};

use crate::{
    chromium::{Chromium, Tab},
    usher::Usher,
};

/// The file of the npm package axe-core.
const AXE: &str = "HOLDFAST_AXE";

/// The customer in the browser.
const OWN: &str = "usr_1";

/// A browser in front of a waiting room.
struct Visit {
    usher: Usher,
    browser: Chromium,
}

impl Visit {
    /// A line of so many tickets, whose functions have these variables too. Nothing: there is no browser.
    async fn to(tickets: u32, variables: &[(&str, &str)]) -> Option<Self> {
        let browser = Chromium::start()?;
        Some(Self { usher: Usher::open(tickets, variables).await, browser })
    }

    /// The same, with pages that are told at once. Nothing: there is no browser.
    async fn to_one_with_pushes(tickets: u32) -> Option<Self> {
        let browser = Chromium::start()?;
        Some(Self { usher: Usher::open_with_pushes(tickets).await, browser })
    }

    /// The connections of pages that are open.
    fn connections(&self) -> Vec<String> {
        self.usher.sockets().open()
    }

    /// A tab with the page.
    async fn tab(&self) -> Tab {
        self.browser.open(&self.usher.page()).await
    }

    /// A tab in which the customer has signed in and joined.
    async fn joined(&self, tickets: u32) -> Tab {
        let tab = self.tab().await;
        tab.sees("People waiting").await;
        tab.click("spinbutton", "Tickets").await;
        tab.evaluate("document.getElementById('seats').select()").await;
        tab.type_in(&tickets.to_string()).await;
        tab.click("button", "Sign in and join").await;
        sign_in(&tab, OWN).await;
        tab
    }

    /// A tab of a customer who waits in a line that is paused, and who is told at once.
    async fn waits_connected(&self) -> Tab {
        self.usher.set_line(json!({"paused": true})).await;
        let tab = self.joined(1).await;
        tab.sees("The line is paused.").await;
        is_connected(&tab).await;
        tab
    }
}

/// Signs in at the issuer, and comes back to the page.
async fn sign_in(tab: &Tab, user: &str) {
    tab.sees("Who are you?").await;
    tab.evaluate("document.querySelector('input').select()").await;
    tab.type_in(user).await;
    tab.press("Enter").await;
    tab.wait_for("location.pathname === '/waiting-room' && document.readyState === 'complete'").await;
}

/// Nothing in the console is red.
#[track_caller]
fn is_content(tab: &Tab) {
    assert_eq!(tab.complaints(), [""; 0]);
}

/// Waits until the page is told at once.
async fn is_connected(tab: &Tab) {
    tab.wait_for("socket?.readyState === WebSocket.OPEN").await;
}

/// The requests of the tab to a method, so far.
fn asked(tab: &Tab, method: &str) -> usize {
    let end = format!("/{method}");
    tab.requests().iter().filter(|request| request.url.split('?').next().is_some_and(|url| url.ends_with(&end))).count()
}

/// What a screen reader was told last, softly or at once.
async fn heard(tab: &Tab) -> String {
    let said =
        tab.evaluate("document.getElementById('called').textContent + document.getElementById('heard').textContent");
    said.await.as_str().unwrap().to_owned()
}

/// Where pictures of a run lie, for a person to look at.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("waiting-room-{name}.png"))
}

/// What must not be: faults that axe-core finds in what is shown now, by day and by night.
async fn is_for_everybody(tab: &Tab, axe: &str, scene: &str) {
    for scheme in ["light", "dark"] {
        tab.prefer("prefers-color-scheme", scheme).await;
        tab.evaluate(&format!("{axe}; undefined")).await;
        let found =
            tab.evaluate("axe.run().then(({violations, passes}) => ({violations, passes: passes.length}))").await;
        let faults: Vec<String> = found["violations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| format!("{}: {}", fault["id"], fault["nodes"]))
            .collect();
        assert!(faults.is_empty(), "{scene}, {scheme}: {faults:#?}");
        assert!(found["passes"].as_u64().unwrap() > 10, "{scene}: it has looked at nothing: {found}");
    }
    let wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    assert_eq!(wider, 0, "{scene}: it scrolls sideways");
    let small = tab
        .evaluate(
            "Array.from(document.querySelectorAll('button, input')).filter((one) => one.offsetParent && \
             (one.offsetHeight < 44 || one.offsetWidth < 44)).map((one) => one.outerHTML)",
        )
        .await;
    assert_eq!(small, json!([]), "{scene}: a thumb misses these");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_joins_waits_is_called_reserves_and_pays() {
    let Some(visit) = Visit::to(2, &[]).await else { return };
    let first = visit.usher.reserves("usr_2", 2).await;
    let tab = visit.joined(2).await;
    tab.sees("You are in").await;
    tab.sees("You are next").await;
    tab.sees("All tickets are in other people's hands just now.").await;
    tab.sees("When a ticket comes back").await;
    tab.picture(&picture("next")).await;
    visit.usher.gives_back("usr_2", &first).await;
    tab.sees("It is your turn").await;
    tab.sees("You may take up to 2 tickets.").await;
    tab.wait_for("/^(5:00|4:5\\d)$/.test(document.getElementById('clock').textContent)").await;
    assert_eq!(tab.evaluate("document.title").await, "● It is your turn – Waiting room");
    tab.picture(&picture("turn")).await;
    tab.click("button", "Reserve").await;
    tab.sees("2 tickets are held for you").await;
    tab.picture(&picture("held")).await;
    let [reservation] = visit.usher.reservations_of(OWN).await.try_into().unwrap();
    tab.sees(&reservation).await;
    visit.usher.paid(OWN, &reservation);
    tab.sees("The tickets are yours").await;
    tab.picture(&picture("yours")).await;
    is_content(&tab);
}

/// As a phone has it; a person who sees nothing hears it, and a thumb can use it.
#[tokio::test(flavor = "multi_thread")]
async fn every_scene_is_for_everybody() {
    let axe = env::var_os(AXE).and_then(|file| fs::read_to_string(file).ok());
    let Some(axe) = axe else {
        return Ring::Browser
            .skip_or_fail(&format!("{AXE} names no file; unpack the npm package axe-core, and name its axe.min.js"));
    };
    let Some(visit) = Visit::to(2, &[("RELEASE_GRACE_SECONDS", "1")]).await else { return };
    let other = visit.usher.reserves("usr_2", 2).await;
    let tab = visit.tab().await;
    tab.be_a_phone(320, 640).await;
    tab.sees("People waiting").await;
    is_for_everybody(&tab, &axe, "join").await;
    tab.click("button", "Sign in and join").await;
    sign_in(&tab, OWN).await;
    tab.sees("You are in").await;
    is_for_everybody(&tab, &axe, "joining").await;
    tab.sees("You are next").await;
    is_for_everybody(&tab, &axe, "waiting").await;
    let told = heard(&tab).await;
    assert!(
        told.starts_with("You are next. All tickets are in other people's hands")
            && told.contains("0 people before you"),
        "{told}"
    );
    tab.picture(&picture("phone")).await;
    tab.click("button", "Leave the line").await;
    tab.sees("Who joins again stands at the end.").await;
    is_for_everybody(&tab, &axe, "leaving").await;
    assert_eq!(tab.named("dialog").await, ["Leave the line?"]);
    tab.click("button", "Stay").await;
    visit.usher.set_line(json!({"paused": true})).await;
    tab.sees("The line is paused.").await;
    is_for_everybody(&tab, &axe, "paused").await;
    visit.usher.set_line(json!({"paused": false})).await;
    visit.usher.gives_back("usr_2", &other).await;
    tab.reload().await;
    tab.sees("It is your turn").await;
    is_for_everybody(&tab, &axe, "turn").await;
    assert!(heard(&tab).await.starts_with("It is your turn. Reserve before the time is over"));
    assert_eq!(tab.named("timer").await.len(), 1);
    tab.click("button", "Reserve").await;
    tab.sees("1 ticket is held for you").await;
    is_for_everybody(&tab, &axe, "held").await;
    let [reservation] = visit.usher.reservations_of(OWN).await.try_into().unwrap();
    visit.usher.paid(OWN, &reservation);
    tab.sees("The tickets are yours").await;
    is_for_everybody(&tab, &axe, "yours").await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_place_and_the_turn_and_the_tickets() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    visit.usher.join("usr_3", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are number 3").await;
    tab.sees("There are fewer tickets left than people before you").await;
    tab.reload().await;
    tab.sees("You are number 3").await;
    assert_eq!(asked(&tab, "EnqueueBooking"), 1, "a reload joins nothing anew");
    visit.usher.leaves("usr_3").await;
    visit.usher.gives_back("usr_2", &other).await;
    tab.sees("It is your turn").await;
    tab.reload().await;
    tab.sees("It is your turn").await;
    tab.click("button", "Reserve").await;
    tab.sees("1 ticket is held for you").await;
    tab.reload().await;
    tab.sees("1 ticket is held for you").await;
    tab.wait_for("/^\\d+:\\d\\d$/.test(document.getElementById('clock').textContent)").await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_customer_show_one_place_and_make_one_reservation() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    let (one, two) = (visit.joined(1).await, visit.joined(1).await);
    for tab in [&one, &two] {
        tab.show().await;
        tab.sees("You are next").await;
    }
    assert_eq!(visit.usher.line().await["joined"], 2, "he stands there once");
    visit.usher.gives_back("usr_2", &other).await;
    for tab in [&one, &two] {
        tab.sees("It is your turn").await;
    }
    // At the same moment, as nobody can.
    let press = "document.getElementById('submit').click()";
    tokio::join!(one.evaluate(press), two.evaluate(press));
    for tab in [&one, &two] {
        tab.sees("1 ticket is held for you").await;
    }
    assert_eq!(visit.usher.reservations_of(OWN).await.len(), 1);
    let reservation = visit.usher.reservations_of(OWN).await.remove(0);
    two.show().await;
    two.click("button", "Give the tickets back").await;
    two.sees("You can't have them back.").await;
    two.evaluate("document.getElementById('sure-leave').click()").await;
    for tab in [&one, &two] {
        tab.sees("Your turn is over").await;
    }
    assert!(reservation.starts_with("rsv_q"), "{reservation}");
    is_content(&one);
    is_content(&two);
}

/// A paused line is asked each half minute, so that it was not that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_in_one_tab_the_other_shows_at_once() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.set_line(json!({"paused": true})).await;
    let (one, two) = (visit.joined(1).await, visit.joined(1).await);
    two.sees("The line is paused.").await;
    one.show().await;
    one.sees("The line is paused.").await;
    one.click("button", "Leave the line").await;
    one.sees("Leave the line?").await;
    let left = Instant::now();
    one.evaluate("document.getElementById('sure-leave').click()").await;
    two.sees("You have left the line").await;
    assert!(left.elapsed() < Duration::from_secs(10), "the other tab has seen it after {:?}", left.elapsed());
    is_content(&one);
    is_content(&two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tab_is_called_all_the_same_and_says_so_by_its_title() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    let front = visit.browser.open("about:blank").await;
    tab.wait_for("document.visibilityState === 'hidden'").await;
    visit.usher.gives_back("usr_2", &other).await;
    tab.wait_for("document.title.startsWith('● It is your turn')").await;
    assert_eq!(tab.evaluate("document.visibilityState").await, "hidden");
    let alert = tab.evaluate("document.querySelector('[role=alert]').textContent").await;
    assert!(
        alert.as_str().unwrap().starts_with("It is your turn."),
        "it is said at once, whatever is being read: {alert}"
    );
    tab.show().await;
    tab.wait_for("/^(5:00|4:\\d\\d)$/.test(document.getElementById('clock').textContent)").await;
    front.close().await;
    is_content(&tab);
}

/// A page that asks nothing by itself any more, so that only the push can have told it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_learns_of_its_turn_by_a_push_and_asks_once_for_it() {
    let Some(visit) = Visit::to_one_with_pushes(1).await else { return };
    let tab = visit.waits_connected().await;
    tab.evaluate("clearTimeout(timer); planned = () => 0").await;
    let (own, all) = (asked(&tab, "GetQueuePosition"), asked(&tab, "GetQueueStatus"));
    visit.usher.set_line(json!({"paused": false})).await;
    tab.wait_for("document.title.startsWith('● It is your turn')").await;
    // Whoever finds it out by himself asks for the line before he asks for his place, and once more behind it.
    assert_eq!((asked(&tab, "GetQueuePosition") - own, asked(&tab, "GetQueueStatus") - all), (1, 1));
    assert_eq!(visit.usher.sockets().taken().len(), 1, "he is told once");
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_connection_is_away_asks_as_ever_and_says_nothing_of_it() {
    let Some(visit) = Visit::to_one_with_pushes(1).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    is_connected(&tab).await;
    let [connection] = visit.connections().try_into().unwrap();
    visit.usher.sockets().close(&connection);
    tab.wait_for("socket === null").await;
    assert_eq!(tab.evaluate("document.getElementById('trouble').hidden").await, true);
    visit.usher.gives_back("usr_2", &other).await;
    tab.sees("It is your turn").await;
    assert!(visit.usher.sockets().taken().is_empty(), "it was not a push");
    // With the answer it has got another ticket.
    is_connected(&tab).await;
    assert_eq!(tab.evaluate("document.getElementById('trouble').hidden").await, true);
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_and_a_hidden_tab_are_told_at_once_as_well() {
    let Some(visit) = Visit::to_one_with_pushes(1).await else { return };
    let tab = visit.waits_connected().await;
    let before = visit.connections();
    tab.reload().await;
    tab.sees("The line is paused.").await;
    is_connected(&tab).await;
    visit.usher.until("the first connection has ended", async || visit.connections().len() == 1).await;
    assert_ne!(visit.connections(), before, "a reload opens another");
    let front = visit.browser.open("about:blank").await;
    tab.wait_for("document.visibilityState === 'hidden'").await;
    tab.evaluate("clearTimeout(timer); planned = () => 0").await;
    visit.usher.set_line(json!({"paused": false})).await;
    tab.wait_for("document.title.startsWith('● It is your turn')").await;
    assert_eq!(tab.evaluate("document.visibilityState").await, "hidden");
    front.close().await;
    is_content(&tab);
}

/// A tab that was asleep asks when it is looked at again, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_line_says_so_and_who_looks_again_sees_it_go_on() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.set_line(json!({"paused": true})).await;
    let tab = visit.joined(1).await;
    tab.sees("The line is paused. Nobody is called, and nobody loses a place.").await;
    tab.sees("Not known yet").await;
    let before = tab.requests().len();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(tab.requests().len(), before, "a paused line is asked each half minute");
    let front = visit.browser.open("about:blank").await;
    tab.wait_for("document.visibilityState === 'hidden'").await;
    visit.usher.set_line(json!({"paused": false})).await;
    visit.usher.until("he is called", async || visit.usher.line().await["serving"] == 1).await;
    // What is said of the line may be a second old.
    sleep(Duration::from_secs(2)).await;
    let (requests, looked) = (tab.requests().len(), Instant::now());
    tab.show().await;
    tab.sees("It is your turn").await;
    let took = looked.elapsed();
    assert!(took < Duration::from_secs(10), "it has waited for its half minute: {took:?}");
    assert!(tab.requests().len() > requests, "it was asked by the look, and not before");
    front.close().await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_misses_his_turn_is_told_so_and_is_called_again() {
    // A call lasts longer than this page, which is told to ask every two seconds, waits.
    let short = [("CALL_WINDOW_SECONDS", "6"), ("RELEASE_GRACE_SECONDS", "1")];
    let Some(visit) = Visit::to(1, &short).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    tab.be_offline(true).await;
    visit.usher.gives_back("usr_2", &other).await;
    // Who stands behind him is called, because he does not answer.
    let next = visit.usher.reserves("usr_3", 1).await;
    tab.sees("You are offline. Your place stays.").await;
    tab.be_offline(false).await;
    tab.sees("Your turn has passed").await;
    tab.sees("You are called again, before those behind you").await;
    visit.usher.gives_back("usr_3", &next).await;
    tab.sees("It is your turn").await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_draw_is_told_so_and_has_his_number_after_it() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let opens_in = async |seconds: u64| {
        let opens_at = moment(epoch_ms(SystemTime::now() + Duration::from_secs(seconds)));
        visit.usher.set_line(json!({"opens_at": opens_at})).await;
    };
    // Only a line that has not opened yet can be switched to a draw.
    opens_in(3_600).await;
    visit.usher.set_line(json!({"draw": true})).await;
    visit.usher.all_join(&["usr_2", "usr_3"].map(str::to_owned)).await;
    let tab = visit.joined(1).await;
    visit.usher.until("all have places", async || visit.usher.line().await["joined"] == 3).await;
    for _ in 0..2 {
        tab.sees("You are in the draw").await;
        tab.sees("Everybody who comes before the sale opens stands in an order that is drawn then, at ").await;
        tab.sees("Whether you came early or late does not matter. Your number is here after the draw.").await;
        assert!(heard(&tab).await.starts_with("You are in the draw. Everybody who comes before"));
        assert_eq!(tab.evaluate("/number \\d|People before you/.test(document.body.innerText)").await, false);
        tab.reload().await;
    }
    tab.picture(&picture("draw")).await;

    opens_in(1).await;
    visit.usher.until("the first is called", async || visit.usher.line().await["serving"] == 1).await;
    let line = visit.usher.line().await;
    let draw = Draw { seed: line["draw_seed"].as_str().unwrap().to_owned(), size: 3 };
    tab.reload().await; // An hour before its opening a page asks every two minutes.
    // He came last of the three.
    tab.sees(match draw.turn_of(3) {
        1 => "It is your turn",
        2 => "You are next",
        _ => "You are number 3",
    })
    .await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_sold_out_says_so_to_who_waits_and_to_who_comes() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let other = visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    visit.usher.paid("usr_2", &other);
    tab.sees("Sold out").await;
    tab.sees("All tickets were sold before your turn came.").await;
    let late = visit.tab().await;
    late.sees("All tickets are sold.").await;
    assert_eq!(late.named("button").await, [""; 0], "nobody can join any more");
    is_content(&tab);
    is_content(&late);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_has_no_place_and_may_stand_at_the_end_again() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    visit.usher.join("usr_3", 1).await;
    tab.click("button", "Leave the line").await;
    tab.sees("Leave the line?").await;
    tab.evaluate("document.getElementById('sure-leave').click()").await;
    tab.sees("You have left the line").await;
    tab.click("button", "Join again, at the end").await;
    tab.sees("You are number 4").await;
    is_content(&tab);
}

/// A token that has run out is renewed without a word. Where that is not possible, the customer signs in, and stands where he
/// stood.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_without_a_session_signs_in_again_and_has_his_place() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.reserves("usr_2", 1).await;
    visit.usher.sale.issuer.let_tokens_last(Duration::from_secs(2));
    let joined = Instant::now();
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    // One for the code, the others for the refresh token: no more than there were times of two seconds.
    let (tokens, took) = (asked(&tab, "token") as u64, joined.elapsed());
    assert!((2..=took.as_secs() / 2 + 2).contains(&tokens), "{tokens} in {took:?}");
    sleep(Duration::from_secs(3)).await;
    visit.usher.sale.issuer.let_tokens_last(Duration::from_secs(600));
    tab.reload().await;
    tab.sees("Please sign in again").await;
    tab.sees("Your place stays").await;
    tab.click("button", "Sign in").await;
    sign_in(&tab, OWN).await;
    tab.sees("You are next").await;
    assert_eq!(visit.usher.line().await["joined"], 2);
    assert_eq!(tab.evaluate("document.cookie").await, "", "there is no cookie to lose");
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_the_page_did_not_ask_for_is_not_taken() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let tab = visit.tab().await;
    tab.click("button", "Sign in and join").await;
    tab.sees("Who are you?").await;
    tab.go(&format!("{}&code=stolen&state=guessed", visit.usher.page())).await;
    tab.sees("That sign-in was not asked for by this page.").await;
    assert_eq!(asked(&tab, "token"), 0);
    assert!(!tab.evaluate("location.href").await.as_str().unwrap().contains("stolen"));
    tab.go(&visit.usher.page()).await;
    tab.click("button", "Sign in and join").await;
    tab.sees("Who are you?").await;
    tab.evaluate("document.querySelector('form').noValidate = true; document.querySelector('input').value = ''").await;
    tab.click("button", "Sign in").await;
    tab.sees("You were not signed in.").await;
    assert_eq!(visit.usher.line().await["joined"], 0);
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_does_not_answer_is_asked_later_and_later() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    tab.be_offline(true).await;
    tab.sees("You are offline. Your place stays. The next try is in").await;
    let before = tab.requests().len();
    sleep(Duration::from_secs(12)).await;
    let tries = tab.requests().len() - before;
    // After 1 to 2 s, 2 to 4, 4 to 8: a page that asks each two seconds makes six.
    assert!((1..=4).contains(&tries), "{tries} tries in 12 s");
    tab.be_offline(false).await;
    tab.wait_for("document.getElementById('trouble').hidden").await;
    tab.sees("You are next").await;
    is_content(&tab);
}

/// The line says: in two seconds. Somebody who waits asks for the answer that all get, and for his own place when he comes or
/// is called.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_as_often_as_it_is_told_however_often_it_is_looked_at() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    visit.usher.reserves("usr_2", 1).await;
    let tab = visit.joined(1).await;
    tab.sees("You are next").await;
    let looked = Instant::now();
    let (own, all) = (asked(&tab, "GetQueuePosition"), asked(&tab, "GetQueueStatus"));
    let front = visit.browser.open("about:blank").await;
    for _ in 0..10 {
        tab.show().await;
        front.show().await;
        sleep(Duration::from_millis(400)).await;
    }
    tab.show().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(asked(&tab, "GetQueuePosition"), own);
    let all = asked(&tab, "GetQueueStatus") - all;
    let took = looked.elapsed();
    assert!((2..=took.as_secs() / 2 + 1).contains(&(all as u64)), "{all} in {took:?}, where one in two seconds is due");
    front.close().await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_is_left_is_the_servers_whatever_the_clock_of_the_machine_says() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let tab = visit.tab().await;
    tab.before_each_page("{ const now = Date.now; Date.now = () => now() + 3_600_000; }").await;
    tab.reload().await;
    tab.click("button", "Sign in and join").await;
    sign_in(&tab, OWN).await;
    tab.sees("It is your turn").await;
    tab.wait_for("/^(5:00|4:5\\d)$/.test(document.getElementById('clock').textContent)").await;
    is_content(&tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_is_enough() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let tab = visit.tab().await;
    tab.sees("Get in line").await;
    tab.press("Tab").await;
    tab.wait_for("document.activeElement.id === 'seats'").await;
    tab.press("Enter").await;
    sign_in(&tab, OWN).await;
    tab.sees("It is your turn").await;
    for id in ["seats", "submit", "leave"] {
        tab.press("Tab").await;
        assert_eq!(tab.evaluate("document.activeElement.id").await, id);
    }
    tab.press("Enter").await;
    tab.sees("Give your turn up?").await;
    assert_eq!(
        tab.evaluate("document.activeElement.textContent").await,
        "Stay",
        "who presses Enter twice loses nothing"
    );
    tab.press("Enter").await;
    tab.wait_for("document.activeElement.id === 'leave'").await;
    tab.sees("It is your turn").await;
    is_content(&tab);
}

/// One file, and nothing that it did not come with.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_and_runs_nothing_but_itself() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let tab = visit.tab().await;
    tab.sees("Get in line").await;
    let origin = visit.usher.sale.gateway.url();
    let foreign: Vec<_> = tab.requests().into_iter().filter(|request| !request.url.starts_with(&origin)).collect();
    assert!(foreign.iter().all(|request| request.url.starts_with("data:")), "{foreign:?}");
    is_content(&tab);
    for (what, foreign) in [
        (
            "a script",
            "const s = document.createElement('script'); s.append('globalThis.isOwned = 1'); document.head.append(s)",
        ),
        (
            "a handler",
            "const b = document.createElement('b'); try { b.setAttribute('onclick', 'globalThis.isOwned = 1') } catch { } b.click()",
        ),
        ("markup", "try { document.body.innerHTML = '<b>' } catch { }"),
        ("a call", "fetch('https://elsewhere.example/').catch(() => {})"),
        ("a picture", "new Image().src = 'https://elsewhere.example/a.png'"),
        ("a style", "const s = document.createElement('style'); s.append('b {}'); document.head.append(s)"),
    ] {
        let before = tab.complaints().len();
        tab.evaluate(&format!("(() => {{ {foreign} }})()")).await;
        let refused = async {
            while tab.complaints().len() == before {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), refused).await.is_ok(), "{what} is let in");
    }
    assert_eq!(tab.evaluate("globalThis.isOwned").await, Value::Null);
    let answer = reqwest::get(visit.usher.page()).await.unwrap();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "public, max-age=60"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let issuer = visit.usher.sale.issuer.url();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.contains(&format!("connect-src 'self' {issuer};")) && !policy.contains("unsafe"), "{policy}");
    let usher = Usher::open_with_pushes(1).await;
    let answer = reqwest::get(usher.page()).await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let pushes = usher.sockets().base().replacen("http", "ws", 1);
    let (issuer, pushes) = (usher.sale.issuer.url(), pushes.trim_end_matches("/live"));
    assert!(policy.contains(&format!("connect-src 'self' {issuer} {pushes};")), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_an_event_or_of_one_without_a_line_says_so() {
    let Some(visit) = Visit::to(1, &[]).await else { return };
    let page = format!("{}/waiting-room", visit.usher.sale.gateway.url());
    let tab = visit.browser.open(&page).await;
    tab.sees("Which event?").await;
    tab.go(&format!("{page}?event=evt_none")).await;
    tab.sees("There is no line here").await;
    tab.go(&format!("{page}?event=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")).await;
    tab.sees("<img src=x onerror=alert(1)>").await;
    is_content(&tab);
}

/// The page as the README shows it: in the middle of a line that moves.
#[tokio::test(flavor = "multi_thread")]
async fn the_picture_of_the_readme_is_what_the_browser_shows() {
    let Some(visit) = Visit::to(500, &[]).await else { return };
    visit.usher.set_line(json!({"max_inside": 1})).await;
    let others: Vec<String> = (2..=10).map(|number| format!("usr_{number}")).collect();
    visit.usher.all_join(&others).await;
    let tab = visit.joined(2).await;
    tab.be_as_large_as(640, 660).await;
    tab.sees("You are number 10").await;
    for other in &others[..3] {
        let reservation = visit.usher.reserves(other, 1).await;
        visit.usher.paid(other, &reservation);
    }
    tab.sees("or less").await;
    tab.wait_for("document.getElementById('progress').position > 0.2").await;
    let kept = workspace().join("tests/pictures/waiting-room.png");
    let drawn = picture("number");
    tab.picture(&drawn).await;
    if env::var_os("HOLDFAST_PICTURES").is_some_and(|value| value == "write") {
        fs::copy(&drawn, &kept).unwrap();
    }
    // Letters are drawn otherwise on each machine, so that only the size is compared.
    let mend = "the picture is stale; draw it anew: HOLDFAST_PICTURES=write cargo test --test contract picture";
    let [drawn, kept] = [drawn, kept].map(|path| fs::read(path).unwrap_or_default());
    assert_eq!(kept.get(..24), drawn.get(..24), "{mend}");
    assert!((20_000..60_000).contains(&kept.len()), "{} bytes", kept.len());
    is_content(&tab);
}
