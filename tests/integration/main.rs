//! The functions' real binaries, driven through the local stack. One module a subject; every test has a stack of its own.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod authority;
mod harness;
mod scripted;

mod access;
mod admission;
mod bad_input;
mod batch;
mod batch_at_once;
mod budget;
mod called;
mod carried;
mod configuration;
mod confirm;
mod connections;
mod faults;
mod gateway;
mod guard;
mod guard_contract;
mod help;
mod kafka;
mod open_holds;
mod outcomes;
mod own_word;
mod pictures;
mod placing;
mod pushes;
mod records;
mod redrive;
mod reflection;
mod relay;
mod replay;
mod reservation_api;
mod reservation_rpc;
mod reservations;
mod sale;
mod secrets;
mod settle;
mod telemetry;
mod tls;
mod up;
mod waiting_room;
mod waiting_room_rpc;
