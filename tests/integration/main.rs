//! The functions' real binaries, driven through the local stack. One module a subject; every test has a stack of its own.

mod harness;

mod replay;
