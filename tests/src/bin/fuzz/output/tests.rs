use super::*;

fn read(lines: &str) -> Output {
    let mut output = Output::default();
    for line in lines.lines() {
        output.read(line);
    }
    output
}

#[test]
fn the_last_progress_counts() {
    let lines = "INFO: Loaded 1 modules   (5247 inline 8-bit counters): 5247 [0x559f22f048a8, 0x559f22f05d27), \n\
        INFO: seed corpus: files: 87 min: 256b max: 618b total: 39679b rss: 27Mb\n\
        #88\tINITED cov: 784 ft: 1223 corp: 42/17Kb exec/s: 0 rss: 28Mb\n\
        #91\tNEW    cov: 790 ft: 1229 corp: 43/17Kb lim: 618 exec/s: 0 rss: 28Mb L: 427/618 MS: 3 ChangeASCIIInt-CrossOver-\n";
    assert_eq!(read(lines).progress, Progress { inputs: 91, edges: 790, features: 1_229, corpus: 43 });
}

#[test]
fn a_panic_is_told_in_its_own_words() {
    let lines = "#764697\tREDUCE cov: 2919 ft: 8581 corp: 1329/240Kb lim: 843 exec/s: 5581 rss: 32Mb L: 279/807 MS: 1 EraseBytes-\n\
        \n\
        thread '<unnamed>' (6162) panicked at shared/src/settlement/event/fields.rs:88:9:\n\
        a fault made on purpose\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\
        ==6162== ERROR: libFuzzer: deadly signal\n\
        NOTE: libFuzzer has rudimentary signal handlers.\n\
        SUMMARY: libFuzzer: deadly signal\n\
        MS: 1 ChangeBit-; base unit: 705d50f857b2984651cae153b54293118a393f5f\n\
        artifact_prefix='faults/'; Test unit written to faults/crash-57227b51b25ac7fac2930fb700ade4c7855b56dd\n\
        stat::number_of_executed_units: 764813\n\
        stat::average_exec_per_sec:     5582\n";
    let output = read(lines);
    assert_eq!(output.progress, Progress { inputs: 764_813, edges: 2_919, features: 8_581, corpus: 1_329 });
    assert_eq!(output.input, Some("faults/crash-57227b51b25ac7fac2930fb700ade4c7855b56dd".into()));
    let said =
        "thread '<unnamed>' (6162) panicked at shared/src/settlement/event/fields.rs:88:9:\na fault made on purpose";
    assert_eq!(output.said(), said);
}

#[test]
fn an_end_without_a_panic_is_told_in_the_words_of_libfuzzer() {
    let lines = "ALARM: working on the last Unit for 11 seconds\n\
        ==1== ERROR: libFuzzer: timeout after 11 seconds\n\
        artifact_prefix='faults/'; Test unit written to faults/timeout-57227b51b25ac7fac2930fb700ade4c7855b56dd\n";
    let output = read(lines);
    assert_eq!(output.said(), "timeout after 11 seconds");
    assert!(output.input.is_some_and(|input| input.starts_with("faults")));
}

#[test]
fn what_is_no_progress_changes_nothing() {
    let lines = "Dictionary: 76 entries\n# a line\n#12\n#x\tNEW cov: 1 ft: 2 corp: 3/4b\n#13\tNEW cov: ? ft: 2 corp: 3/4b\nDone 100 runs in 3 second(s)\n";
    assert_eq!(read(lines), Output::default());
}
