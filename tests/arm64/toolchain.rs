//! What it takes to build the functions for AArch64 and to run them on this machine.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use local_stack::{
    build::{Binaries, cargo, workspace},
    catalogue::NAMES,
    ring::on_path,
};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The variable that names the compiler to use, in place of those that are tried otherwise.
const RUSTC: &str = "HOLDFAST_ARM64_RUSTC";

/// The pinned compiler, which knows the target where `rustup target add` was run, and then that of the distribution.
const RUSTCS: [&str; 2] = ["rustc", "/usr/bin/rustc"];

const GCC: &str = "aarch64-linux-gnu-gcc";
const AR: &str = "aarch64-linux-gnu-ar";

/// Debian calls a QEMU that needs no libraries of its own by the first name; others know only the second.
const QEMUS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];

/// Where distributions put the C library that the binaries load.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Whether this machine runs AArch64 by itself, and so needs neither a cross linker nor QEMU.
const NATIVE: bool = cfg!(all(target_arch = "aarch64", target_os = "linux"));

pub(crate) struct Toolchain {
    rustc: String,
    /// How to run a binary; nothing on a machine that is AArch64 itself.
    qemu: Option<PathBuf>,
}

impl Toolchain {
    /// Finds the tools, or says which are missing and how to get them.
    pub(crate) fn find() -> Result<Self, String> {
        let rustcs = env::var(RUSTC).map_or_else(|_| RUSTCS.map(str::to_owned).to_vec(), |named| vec![named]);
        let rustc = rustcs.into_iter().find(|rustc| has_standard_library(rustc));
        // Its whole path, because the local stack's Lambda hands its own search path to nobody.
        let qemu = QEMUS.iter().find_map(|name| on_path(name));

        let loader = Path::new(SYSROOT).join("lib/ld-linux-aarch64.so.1");
        let tools = [
            (rustc.is_some(), format!("a rustc that builds for {TARGET} (rustup target add {TARGET})")),
            (NATIVE || on_path(GCC).is_some(), GCC.to_owned()),
            (NATIVE || on_path(AR).is_some(), AR.to_owned()),
            (NATIVE || loader.is_file(), loader.display().to_string()),
            (NATIVE || qemu.is_some(), QEMUS.join(" or ")),
        ];
        let missing: Vec<String> = tools.into_iter().filter_map(|(found, tool)| (!found).then_some(tool)).collect();
        match rustc {
            Some(rustc) if missing.is_empty() => Ok(Self { rustc, qemu: qemu.filter(|_| !NATIVE) }),
            _ => Err(format!("this machine lacks {}; install with .ci/arm64-toolchain", missing.join(", "))),
        }
    }

    /// Builds the functions as the tests are built. What the optimiser changes is asked in tests/release: here it would take
    /// ten minutes, and it tells little about AArch64. cargo shows its progress on standard error.
    pub(crate) fn build(&self) -> Binaries {
        // A folder of its own keeps what another compiler built apart, and the two builds never wait for one lock.
        let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("arm64");
        let mut command = cargo();
        command.args(["build", "--locked", "--target", TARGET, "--target-dir"]).arg(&target_dir);
        // Only the functions: the local stack would bring features and C code along that no function is deployed with.
        command.args(NAMES.iter().flat_map(|function| ["--package", *function]));
        command.env("RUSTC", &self.rustc);
        // What wraps or instruments the build of the tests, for coverage say, is not meant for this compiler.
        for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(variable);
        }
        if !NATIVE {
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", GCC);
            // AWS-LC is C and assembly, which its build script compiles by these.
            command.env("CC_aarch64_unknown_linux_gnu", GCC).env("AR_aarch64_unknown_linux_gnu", AR);
        }
        let status = command.status().expect("cargo runs");
        assert!(status.success(), "the functions do not build for {TARGET}: see cargo's messages above");

        let folder = target_dir.join(TARGET).join("debug");
        NAMES.iter().map(|function| ((*function).to_owned(), folder.join(function))).collect()
    }

    /// The program that runs a binary on this machine: itself, or a script beside it that hands it to QEMU. Under QEMU
    /// a function starts and works a record in less than two seconds, within its default time-outs.
    pub(crate) fn program(&self, binary: &Path) -> PathBuf {
        let Some(qemu) = &self.qemu else { return binary.to_owned() };
        let script = binary.with_extension("qemu.sh");
        let text = format!("#!/bin/sh\nexec '{}' -L {SYSROOT} '{}'\n", qemu.display(), binary.display());
        fs::write(&script, text).expect("the script can be written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the script can be made a program");
        script
    }
}

/// Whether a compiler is there and can build programs for the target.
fn has_standard_library(rustc: &str) -> bool {
    let query = ["--print", "target-libdir", "--target", TARGET];
    let Ok(output) = Command::new(rustc).args(query).current_dir(workspace()).output() else { return false };
    let folder = String::from_utf8_lossy(&output.stdout);
    let Ok(mut files) = fs::read_dir(folder.trim()) else { return false };
    files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}
