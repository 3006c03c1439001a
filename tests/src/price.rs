//! What AWS asks for in us-east-1, in USD, as of 2026-11: the first tier, on demand; and the
//! parts of a price, with their arithmetic.

/// For a gigabyte and a second of a function on arm64.
pub const LAMBDA_GB_SECOND: f64 = 0.000_013_333_4;

/// For a million requests to a function.
pub const LAMBDA_REQUESTS: f64 = 0.20;

/// For a million units that DynamoDB writes, each a kilobyte at most.
pub const DYNAMODB_WRITES: f64 = 0.625;

/// For a million units that DynamoDB reads, each four kilobytes at most, or eight where the read need not be consistent.
pub const DYNAMODB_READS: f64 = 0.125;

/// For a million requests to SQS.
pub const SQS_REQUESTS: f64 = 0.40;

/// For a million events that are put on a bus.
pub const EVENTBRIDGE_EVENTS: f64 = 1.00;

/// For a million requests to an HTTP API.
pub const HTTP_API_REQUESTS: f64 = 1.00;

/// For a gigabyte that Lambda's logs take in.
pub const LOGS_GIGABYTE: f64 = 0.50;

/// A part of a price.
pub struct Item {
    /// What is paid for.
    pub what: &'static str,
    /// How the price follows from what was counted, for people.
    pub arithmetic: String,
    /// USD.
    pub price: f64,
}

impl Item {
    /// So many of what is sold by the million, at `each` USD. `how` stands before the arithmetic and says what was counted.
    pub fn of_millions(what: &'static str, how: &str, count: f64, each: f64) -> Self {
        let millions = count / 1_000_000.0;
        Self { what, arithmetic: format!("{how}{millions} million x {each} USD"), price: millions * each }
    }

    /// So many gigabyte-seconds of functions, of which `how` is the product.
    pub fn of_time(what: &'static str, how: &str, gb_seconds: f64) -> Self {
        let arithmetic = format!("{how} = {gb_seconds:.0} GB-s x {LAMBDA_GB_SECOND} USD");
        Self { what, arithmetic, price: gb_seconds * LAMBDA_GB_SECOND }
    }
}
