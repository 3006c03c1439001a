//! The tests of what `cargo bench` computes from its measurements. A benchmark has no test harness of its own.

#![allow(dead_code, reason = "the benchmark uses what the tests do not")]

mod bar;
mod figure;
mod price;

use self::{
    bar::{Bar, Bound},
    figure::{Figure, number},
    price::{Measured, Mixed, items, served},
};
use local_stack::price::Item;

#[test]
fn a_percentile_is_a_measurement_that_was_taken() {
    let figure = Figure::of((1..=20).rev().map(f64::from));
    let of = |percent| figure.percentile(percent);
    assert_eq!([of(0), of(5), of(50), of(95), of(96), of(99), of(100)], [1.0, 1.0, 10.0, 19.0, 20.0, 20.0, 20.0]);
    assert_eq!((figure.median(), figure.runs(), figure.spread().as_str()), (10.0, 20, "1.00 - 19.0"));
    assert_eq!(Figure::of([3.0]).spread(), "3.00 - 3.00");
}

#[test]
fn nothing_measured_is_no_number() {
    assert!(Figure::of([]).median().is_nan());
}

#[test]
fn a_number_shows_three_digits_and_all_of_those_before_the_point() {
    let shown = [0.0, 0.1534, 0.9996, 9.994, 9.996, 99.96, 4_107.0].map(number);
    assert_eq!(shown, ["0.000", "0.153", "1.00", "9.99", "10.0", "100", "4107"]);
}

#[track_caller]
fn met(bound: Bound, expected: [bool; 3]) {
    assert_eq!([1.9, 2.0, 2.1].map(|measured| Bar::of("it", measured, "ms", bound).is_met()), expected);
}

#[test]
fn a_bar_is_met_on_its_own_side() {
    met(Bound::AtMost(2.0), [true, true, false]);
    met(Bound::Below(2.0), [true, false, false]);
    met(Bound::AtLeast(2.0), [false, true, true]);
}

#[test]
fn nothing_measured_meets_no_bar() {
    for bound in [Bound::AtMost(2.0), Bound::Below(2.0), Bound::AtLeast(2.0)] {
        assert!(!Bar::of("it", f64::NAN, "ms", bound).is_met());
    }
}

#[test]
fn a_bar_may_be_so_many_times_a_floor() {
    let bar = |measured| Bar::times("it", measured, 1.5, (2.0, "the no-op's"));
    assert!(bar(3.0).is_met() && !bar(3.1).is_met());
    assert_eq!((bar(3.0).floor, bar(3.0).derived.as_str()), (Some(2.0), "1.5 x 2.00 ms, the no-op's"));
}

#[test]
fn every_part_of_the_price_is_the_product_that_it_shows() {
    let items = items(&Measured { batch: 10, milliseconds: 20.2, memory_mb: 256, writes: 2.0, log_bytes: 440.0 });
    let parts: Vec<_> = items.iter().map(|item| (item.what, format!("{:.4}", item.price))).collect();
    let expected = [
        ("Lambda, time", "0.0070"), // 100,000 x 21 ms x a quarter of a gigabyte: 525 GB-s.
        ("Lambda, requests", "0.0200"),
        ("DynamoDB", "1.2500"),
        ("SQS", "0.4800"),
        ("EventBridge", "1.0000"),
        ("CloudWatch Logs", "0.2200"), // 440 MB.
    ];
    assert_eq!(parts, expected.map(|(what, price)| (what, price.to_owned())));
    assert_eq!(items[0].arithmetic, "100000 invocations x 0.021 s x 0.25 GB = 525 GB-s x 0.0000133334 USD");
    assert_eq!(items[3].arithmetic, "sends; receives and deletes by 10: 1.2 million x 0.4 USD");
}

#[test]
fn a_second_of_requests_is_served_by_as_many_environments_as_its_time_fills() {
    let kind = |a_second, milliseconds, processor_ms| Mixed { a_second, milliseconds, processor_ms };
    let served = served(&[kind(1_500.0, 56.2, 0.5), kind(28_500.0, 8.0, 0.2)], 512);
    assert_eq!((served.environments.round(), served.processors.round()), (312.0, 6.0));
    let parts = served.hour.each_ref().map(|item| (item.what, format!("{:.2}", item.price)));
    // 108 million requests; 57 ms and 8 ms are billed: 313.5 s in a second, of half a gigabyte.
    let expected = [("HTTP API", "108.00"), ("Lambda, requests", "21.60"), ("Lambda, time", "7.52")];
    assert_eq!(parts, expected.map(|(what, price)| (what, price.to_owned())));
    assert_eq!(served.hour[2].arithmetic, "1128600 s x 0.5 GB = 564300 GB-s x 0.0000133334 USD");
}

/// By the page's own assumptions, and no other figure beside it.
#[test]
fn the_pages_have_the_one_price_that_this_arithmetic_makes() {
    let page = include_str!("../../.template/README.md");
    let items = items(&Measured { batch: 10, milliseconds: 25.0, memory_mb: 256, writes: 2.0, log_bytes: 500.0 });
    for Item { what, arithmetic, price } in &items {
        let row = format!("| {what} | {arithmetic} | {price:.2} |");
        assert!(page.contains(&row), ".template/README.md lacks the row {row}");
    }
    let total: f64 = items.iter().map(|item| item.price).sum();
    for text in [
        format!("A million events cost {total:.2} USD"),
        format!("| | | **{total:.2}** |"),
        format!("108 million events, and so {:.0} USD", total * 108.0),
    ] {
        assert!(page.contains(&text), ".template/README.md lacks {text:?}");
    }
    let others =
        [include_str!("../../README.md"), include_str!("../README.md"), include_str!("../../functions/README.md")];
    let prices = std::iter::once(page).chain(others).map(|page| page.matches("A million events cost").count());
    assert_eq!(prices.sum::<usize>(), 1, "the price stands in one place");
}
