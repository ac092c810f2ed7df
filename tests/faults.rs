//! The running service with a real disk that fails: system calls that report an error or kill the process (strace), a disk
//! that is full, segments that cannot be sealed, a clock that is set, a second service on the directory, a cache that is gone or broken.
//!
//! After every fault the same questions: did it say so, is everything acknowledged there, does a start recover, does
//! `verify` pass, is the exit code the documented one.

#![cfg(test)]

#[path = "faults/calls.rs"]
mod calls;
#[path = "faults/places.rs"]
mod places;
#[path = "faults/sealing.rs"]
mod sealing;
#[path = "faults/stage.rs"]
#[allow(dead_code, reason = "shared with the test of the API's description")]
mod stage;
mod support;
