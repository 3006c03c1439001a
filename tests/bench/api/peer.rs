//! The peer in Node: what a user would pick who has no function of ours. It is bundled as SAM bundles it.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use local_stack::{build::workspace, ring::on_path};

use crate::stop::Stop;

/// The variable that names the folder in which the packages of `tests/bench/api/peer` are installed.
const PACKAGES: &str = "HOLDFAST_API_PEER";

/// Node, and the packages of the peer.
pub(super) struct Peer {
    node: PathBuf,
    packages: PathBuf,
}

impl Peer {
    /// Finds both, or says why the peer is left out.
    pub(super) fn find() -> Result<Self, String> {
        let node = on_path("node").ok_or("there is no node")?;
        let how =
            || format!("{PACKAGES} must name a folder: copy tests/bench/api/peer/package*.json there, and run npm ci");
        let packages =
            env::var_os(PACKAGES).map(|folder| PathBuf::from(folder).join("node_modules")).ok_or_else(how)?;
        if packages.is_dir() { Ok(Self { node, packages }) } else { Err(how()) }
    }

    /// Makes the program that a deployment would have, of one file, and answers where it is.
    pub(super) fn bundle(&self) -> Result<PathBuf, Stop> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api-peer");
        fs::create_dir_all(&folder)?;
        let (bundle, bootstrap) = (folder.join("index.cjs"), folder.join("bootstrap"));
        let mut esbuild = Command::new(self.packages.join(".bin/esbuild"));
        esbuild
            .arg(workspace().join("tests/bench/api/peer/runtime.mjs"))
            .arg(format!("--outfile={}", bundle.display()));
        esbuild.args([
            "--bundle",
            "--minify",
            "--platform=node",
            "--format=cjs",
            "--target=node20",
            "--log-level=error",
        ]);
        // The sources lie apart from the packages.
        let made =
            esbuild.env("NODE_PATH", &self.packages).env("PATH", env::var_os("PATH").unwrap_or_default()).output()?;
        if !made.status.success() {
            return Err(Stop::Unable(format!("esbuild: {}", String::from_utf8_lossy(&made.stderr)).into()));
        }
        let script = format!("#!/bin/sh\nexec '{}' '{}'\n", self.node.display(), bundle.display());
        fs::write(&bootstrap, script)?;
        fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755))?;
        Ok(bootstrap)
    }
}
