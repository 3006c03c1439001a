//! Everything that the functions talk to, in one process on loopback: for `cargo local`, and for the tests.
//!
//! | module | stands for | enforces |
//! | --- | --- | --- |
//! | [`stack`] | an account with everything deployed | |
//! | [`lambda`] | the Lambda Runtime API and execution environments | one invocation at a time, timeouts, init failures |
//! | [`gateway`] | API Gateway: an HTTP API with its issuer of tokens, and a WebSocket API | routes, tokens, signatures, limits |
//! | [`mapping`], [`stream`], [`kafka`] | event source mappings of a queue, of a table's stream, and of a topic | what counts as success and as failure |
//! | [`sale`] | a stack that sells, with the functions of this repository alone | |
//! | [`queue`] | SQS standard queues | visibility, receive counts, redrive, message limits |
//! | [`aws`], [`pattern`] | the AWS endpoint: SQS, EventBridge, Secrets Manager, DynamoDB by `dynoxide` | per-entry failures, rules, conditions |
//! | [`inventory`] | the inventory service, over gRPC | no release of sold seats, no sale of another's seats |
//! | [`payments`] | the payment service, over gRPC | a payment is its customer's |
//! | [`realtime`] | the realtime service, over gRPC | who is not connected hears nothing |
//! | [`reservations`] | the reservation API, over REST | one atomic step from HOLD to one end |
//! | [`till`] | where a customer pays | |
//! | [`postgres`] | the database of the bookings: a real one | everything |
//! | [`collector`] | a collector of spans | |
//! | [`proxy`] | the network, and services that can't | |
//! | [`tripwire`] | a caller that dies between two effects | |
//! | [`catalogue`] | the functions of the workspace, for every ring | |
//! | [`template`], [`yaml`] | what of `template.yaml` the stack does itself | routes, rules, the stream's mapping |
//! | [`event`], [`http_event`] | a producer, a client | |
//! | [`ended`] | who reads a function's log | one outcome for each record |
//! | [`scenario`], [`replay`] | the files of `events/` and what they promise | |
//! | [`recast`] | a person who writes event files for a new type | |
//! | [`ministack`] | an AWS account of somebody else's making | what MiniStack enforces |
//! | [`soak`] | thousands of events while everything goes wrong | nothing lost, nothing twice |
//! | [`crowd`] | people who want more tickets than there are | one place each, no ticket twice |
//! | [`placing`], [`arrivals`] | the same people in two designs of a line, and how far their places are from the order of arrival | |
//! | [`books`] | who audits a sale when it has ended | a payment is sold or given back |
//! | [`build`] | the function binaries, built by cargo | |
//! | [`cores`], [`process`] | where a process runs, and what it takes | |
//! | [`price`] | AWS's price list | |
//! | [`ring`] | tests that need tools which not every machine has | |
//!
//! [`removals`] stands for nothing: it is what `cargo removals` takes out of the code, and the tests that must notice. What
//! `cargo redrive` does to a dead-letter queue is in the package `redrive`, which builds without all of this.

pub mod sale;
pub mod stack;

pub mod aws;
pub mod gateway;
pub mod kafka;
pub mod lambda;
pub mod mapping;
pub mod pattern;
pub mod queue;
pub mod stream;

pub mod inventory;
pub mod payments;
pub mod realtime;
pub mod reservations;
pub mod till;

pub mod postgres;

mod latency;
pub mod proto;
mod reflection;

pub mod collector;
pub mod proxy;
pub mod tripwire;

pub mod ministack;

pub mod arrivals;
pub mod books;
pub mod crowd;
pub mod placing;
pub mod soak;

pub mod admission;
pub mod build;
pub mod catalogue;
pub mod cores;
pub mod document;
pub mod ended;
pub mod event;
pub mod http_event;
pub mod port;
pub mod price;
pub mod process;
pub mod replay;
pub mod ring;
pub mod scenario;
pub mod template;
pub mod yaml;

pub mod recast;

pub mod removals;
