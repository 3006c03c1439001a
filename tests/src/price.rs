//! What AWS asks for in us-east-1, in USD, as of 2026-11: the first tier, on demand.

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
