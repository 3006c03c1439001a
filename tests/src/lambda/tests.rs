//! The process under test is this very test program, started again through a script that selects one test.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::OnceLock};

use serde_json::{Value, json};

use super::*;

/// Plays a function when it runs as one; an ordinary test run passes it by.
#[test]
fn function_process() {
    let Ok(api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    if env::var("FAIL_INIT").is_ok() {
        writeln(&mut io::stderr(), "INVENTORY_GRPC_ADDR is missing");
        std::process::exit(3);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(&api));
}

fn writeln(out: &mut impl io::Write, line: &str) {
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

async fn play(api: &str) {
    let base = format!("http://{api}/2018-06-01/runtime");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for count in 1.. {
        let next = http.get(format!("{base}/invocation/next")).send().await.unwrap();
        let id = next.headers()["lambda-runtime-aws-request-id"].to_str().unwrap().to_owned();
        let deadline = next.headers()["lambda-runtime-deadline-ms"].to_str().unwrap().to_owned();
        let event: Value = next.json().await.unwrap();
        writeln(&mut io::stdout(), &format!("handling {event}"));
        match event["do"].as_str() {
            Some("exit") => std::process::exit(7),
            Some("hang") => std::future::pending().await,
            Some("boast") => {
                let answer = " ".repeat(6 * 1024 * 1024) + "{}";
                drop(http.post(format!("{base}/invocation/{id}/response")).body(answer).send().await);
            }
            Some("fail") => {
                let error = json!({"errorType": "Sad", "errorMessage": "no luck"});
                http.post(format!("{base}/invocation/{id}/error")).json(&error).send().await.unwrap();
            }
            _ => {
                let pid = std::process::id();
                let name = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap();
                let answer = json!({"count": count, "pid": pid, "deadline": deadline, "name": name, "event": event});
                http.post(format!("{base}/invocation/{id}/response")).json(&answer).send().await.unwrap();
            }
        }
        writeln(&mut io::stderr(), "after the answer");
    }
}

fn script() -> &'static Path {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let program = env::current_exe().unwrap();
        let path = program.with_extension("function.sh");
        let text =
            format!("#!/bin/sh\nexec '{}' --exact lambda::tests::function_process --nocapture\n", program.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}

fn function(environment: &[(&str, &str)]) -> Function {
    Function::start(FunctionOptions {
        name: "reservation-expired".to_owned(),
        binary: script().to_owned(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        timeout: Duration::from_secs(2),
        environments: 2,
        memory_mb: 256,
        core: None,
    })
    .unwrap()
}

async fn invoke(function: &Function, what: &str) -> Invocation {
    function.invoke(json!({"do": what}).to_string().into_bytes()).await
}

fn answer(invocation: &Invocation) -> Value {
    serde_json::from_slice(invocation.result.as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn the_first_invocation_is_cold_and_the_next_finds_the_process_warm() {
    let function = function(&[]);
    let (first, second) = (invoke(&function, "echo").await, invoke(&function, "echo").await);
    assert!(first.cold && !second.cold);
    assert!(first.init.is_some() && second.init.is_none());
    assert_eq!(answer(&first)["pid"], answer(&second)["pid"]);
    assert_eq!((answer(&second)["count"].clone(), answer(&second)["event"].clone()), (json!(2), json!({"do": "echo"})));
    assert_eq!(answer(&first)["name"], "reservation-expired");
    function.recycle();
    assert!(invoke(&function, "echo").await.cold);
}

#[tokio::test]
async fn the_logs_of_an_invocation_are_complete_and_its_own() {
    let function = function(&[]);
    invoke(&function, "echo").await;
    for _ in 0..20 {
        let logs = invoke(&function, "echo").await.logs;
        assert_eq!(logs, ["handling {\"do\":\"echo\"}", "after the answer"]);
    }
    assert!(function.all_logs().len() > 40);
}

#[tokio::test]
async fn invocations_side_by_side_have_processes_of_their_own() {
    let function = function(&[]);
    let (one, two) = tokio::join!(invoke(&function, "echo"), invoke(&function, "echo"));
    assert_ne!(answer(&one)["pid"], answer(&two)["pid"]);
}

#[tokio::test]
async fn a_reported_error_keeps_the_process() {
    let function = function(&[]);
    let failed = invoke(&function, "fail").await;
    let expected = FunctionError::Unhandled { error_type: "Sad".to_owned(), message: "no luck".to_owned() };
    assert_eq!(failed.result, Err(expected));
    assert!(!invoke(&function, "echo").await.cold);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_an_error_and_keeps_the_process() {
    let function = function(&[]);
    let failed = invoke(&function, "boast").await;
    let Err(FunctionError::Unhandled { error_type, .. }) = failed.result else { panic!("{failed:?}") };
    assert_eq!(error_type, "Function.ResponseSizeTooLarge");
    assert!(!invoke(&function, "echo").await.cold);
}

#[tokio::test]
async fn a_process_that_exits_is_replaced() {
    let function = function(&[]);
    let exited = invoke(&function, "exit").await;
    assert_eq!(exited.result, Err(FunctionError::Exited("exit status: 7".to_owned())));
    assert!(exited.logs.iter().any(|line| line.contains("exit")));
    assert!(invoke(&function, "echo").await.cold);
}

#[tokio::test]
async fn a_process_that_runs_out_of_time_is_killed_and_replaced() {
    let function = function(&[]);
    let late = invoke(&function, "hang").await;
    assert_eq!(late.result, Err(FunctionError::TimedOut));
    assert!(late.duration >= Duration::from_secs(2));
    assert!(invoke(&function, "echo").await.cold);
}

#[tokio::test]
async fn without_a_free_process_an_invocation_is_throttled_and_starts_none() {
    let function = function(&[]);
    let busy = async { tokio::join!(invoke(&function, "hang"), invoke(&function, "hang")) };
    let throttled = async {
        tokio::task::yield_now().await; // The two take the permits first.
        function.invoke_within("{}", Duration::from_millis(100)).await
    };
    let ((one, two), throttled) = tokio::join!(busy, throttled);
    assert_eq!((one.result, two.result), (Err(FunctionError::TimedOut), Err(FunctionError::TimedOut)));
    assert_eq!((throttled.result, throttled.logs.len()), (Err(FunctionError::Throttled), 0));
}

#[tokio::test]
async fn a_failed_start_says_what_the_process_wrote() {
    let failed = invoke(&function(&[("FAIL_INIT", "1")]), "echo").await;
    let Err(FunctionError::Init(text)) = failed.result else { panic!("{failed:?}") };
    assert!(text.contains("exit status: 3") && text.contains("INVENTORY_GRPC_ADDR is missing"), "{text}");
}

#[test]
fn a_missing_program_is_named_at_once() {
    let options = FunctionOptions { binary: PathBuf::from("/nowhere/bootstrap"), ..function(&[]).options().clone() };
    assert!(Function::start(options).unwrap_err().to_string().contains("/nowhere/bootstrap"));
}
