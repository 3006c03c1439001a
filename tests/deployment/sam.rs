//! `sam build` and `sam deploy` of the repository's own template, with the stage `local` of samconfig.toml.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use local_stack::{
    build::workspace,
    ministack::MiniStack,
    ring::{Ring, on_path},
};

/// The programs that the ring needs, and the packages that bring them.
const TOOLS: [(&str, &str); 3] =
    [("sam", "aws-sam-cli"), ("cargo-lambda", "cargo-lambda"), ("ministack", "ministack[full]")];

/// The template and the functions, built once for all tests. Nothing when the ring is skipped.
pub(crate) fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find_and_build = || {
        let missing: Vec<_> = TOOLS.iter().filter(|(program, _)| on_path(program).is_none()).collect();
        if missing.is_empty() {
            return Some(build());
        }
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| format!("'{package}'")).collect();
        let reason = format!("{} not found; install with: pipx install {}", programs.join(", "), packages.join(" "));
        Ring::Deployment.skip_or_fail(&reason);
        None
    };
    BUILT.get_or_init(find_and_build).as_deref()
}

/// An account to deploy to. `name` tells its log from others.
pub(crate) async fn account(name: &str) -> MiniStack {
    MiniStack::start(folder().join(format!("ministack-{name}.log"))).await
}

/// A folder for what the ring writes.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("deployment");
    fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// Deploys a stack of today's template to the account at `endpoint`, with the parameters of the stage `local` but for
/// `changes`.
pub(crate) fn deploy(endpoint: &str, stack: &str, changes: &[(&str, &str)]) {
    let template = built().expect("the ring runs").join("template.yaml");
    deploy_template(endpoint, stack, &template, &parameters(changes));
}

/// As [`deploy`], of any template and with just these parameters. SAM leaves out those that the template does not have.
pub(crate) fn deploy_template(endpoint: &str, stack: &str, template: &Path, parameters: &BTreeMap<String, String>) {
    let mut command = deployment(endpoint, stack, template);
    command.arg("--parameter-overrides").args(parameters.iter().map(|(name, value)| format!("{name}={value}")));
    run(command, &format!("deploy-{stack}"));
}

/// The parameters of the stage `local`, for this machine, but for `changes`.
pub(crate) fn parameters(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut parameters = local_parameters();
    parameters.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    parameters.insert("Architecture".to_owned(), architecture().to_owned());
    parameters
}

/// What a stack says whose settlement guards by the reservation API of somebody else.
pub(crate) fn foreign_api(base: &str) -> [(&str, &str); 2] {
    [("Reservations", "false"), ("ReservationApiBase", base)]
}

/// Tries to deploy a template that the account does not take. A test fails when it does.
pub(crate) fn deploy_in_vain(endpoint: &str, stack: &str, template: &Path) {
    let (succeeded, text) = output(deployment(endpoint, stack, template), &format!("deploy-{stack}"));
    assert!(!succeeded, "it was deployed:\n{text}");
}

fn deployment(endpoint: &str, stack: &str, template: &Path) -> Command {
    let mut command = sam(endpoint, "deploy");
    command.arg("--template-file").arg(template).args(["--stack-name", stack]);
    command
}

fn build() -> PathBuf {
    let out = folder().join("build");
    // A build needs no account; the endpoint only keeps the tool from asking the real one.
    let mut command = sam("http://127.0.0.1:9", "build");
    command.arg("--build-dir").arg(&out);
    command.arg("--parameter-overrides").arg(format!("Architecture={}", architecture()));
    // Optimising and linking across crates take most of a minute for each function and change nothing that is asked here;
    // tests/release does the one for all functions, and the other for one.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    run(command, "build");
    out
}

/// What Lambda calls this machine's architecture.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

fn local_parameters() -> BTreeMap<String, String> {
    let text = fs::read_to_string(workspace().join("samconfig.toml")).expect("samconfig.toml is there");
    let config: toml::Table = text.parse().expect("samconfig.toml is TOML");
    let overrides = config["local"]["deploy"]["parameters"]["parameter_overrides"].as_array().expect("a list");
    let pair = |text: &toml::Value| {
        let (name, value) = text.as_str().and_then(|text| text.split_once('=')).expect("each override is Name=value");
        (name.to_owned(), value.to_owned())
    };
    overrides.iter().map(pair).collect()
}

fn sam(endpoint: &str, subcommand: &str) -> Command {
    let mut command = Command::new("sam");
    // SAM looks for the file beside the template, and the built template lies elsewhere.
    command.arg(subcommand).arg("--config-file").arg(workspace().join("samconfig.toml"));
    command.args(["--config-env", "local"]).current_dir(workspace());
    aim(&mut command, endpoint).env("SAM_CLI_TELEMETRY", "0");
    command
}

/// Sends a program's AWS calls to the account at `endpoint`, and to none that this machine's user has.
pub(crate) fn aim<'c>(command: &'c mut Command, endpoint: &str) -> &'c mut Command {
    command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").envs([
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_REGION", "us-east-1"),
    ])
}

/// Runs a command to its end. A test fails with what it printed when it fails.
fn run(command: Command, name: &str) {
    let shown = format!("{command:?}");
    let (succeeded, text) = output(command, name);
    assert!(succeeded, "{shown} failed:\n{text}");
}

/// Whether a command succeeded, and what it printed.
fn output(mut command: Command, name: &str) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("sam can be run");
    let text = [output.stdout, output.stderr].concat();
    fs::write(folder().join(format!("{name}.log")), &text).expect("the target directory is writable");
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
