//! `cargo fuzz-events`: what reads the words of strangers, under inputs that a fuzzer makes up.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod arguments;
mod output;
mod program;
mod report;
mod workplace;

use std::{path::PathBuf, process::ExitCode};

use arguments::{Arguments, Plan, Target, Task};
use clap::Parser;
use program::{FuzzError, Program};
use workplace::Workplace;

fn main() -> ExitCode {
    let sound = match Arguments::parse().task() {
        Task::Replay(target, inputs) => replay(target, &inputs),
        Task::Fuzz(plan) => fuzz(&plan),
    };
    match sound {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when no input brought a fault to light.
fn fuzz(plan: &Plan) -> Result<bool, FuzzError> {
    let workplace = Workplace::open(plan.target)?;
    let program = Program::build(&workplace)?;
    let seeds = workplace.prepare()?;
    let corpus = workplace.corpus(plan.limit)?;
    report::plan(plan, seeds);
    let run = program.fuzz(plan, corpus, &workplace)?;
    report::run(&run, plan.target);
    Ok(run.fault.is_none())
}

/// True when every input is read or refused as it must be.
fn replay(target: Target, inputs: &[PathBuf]) -> Result<bool, FuzzError> {
    let program = Program::build(&Workplace::open(target)?)?;
    let mut sound = true;
    for input in inputs {
        let fault = program.replay(input)?;
        report::replayed(input, fault.as_ref(), target);
        sound &= fault.is_none();
    }
    Ok(sound)
}
