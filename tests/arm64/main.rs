//! The functions for arm64, which is what they are deployed as: all of them are built for it, and one works an event
//! under the local stack's Lambda. A machine of another architecture runs it by QEMU, so a dependency that does not build
//! for AArch64, or that fails there, shows before a deployment.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod toolchain;

use std::{collections::BTreeMap, fs::File, io::Read, path::Path, sync::OnceLock};

use local_stack::{
    build::Binaries, catalogue::NAMES, inventory::SeatState, replay::Replay, reservations::Status, ring::Ring,
    scenario, stack::Stack,
};

use self::toolchain::Toolchain;

/// The toolchain and what it built, once for all tests; nothing where the ring is skipped.
fn built() -> Option<&'static (Toolchain, Binaries)> {
    static BUILT: OnceLock<Option<(Toolchain, Binaries)>> = OnceLock::new();
    let find_and_build = || match Toolchain::find() {
        Ok(toolchain) => {
            let binaries = toolchain.build();
            Some((toolchain, binaries))
        }
        Err(missing) => {
            Ring::Arm64.skip_or_fail(&missing);
            None
        }
    };
    BUILT.get_or_init(find_and_build).as_ref()
}

/// 64-bit, little endian, EM_AARCH64.
const AARCH64: (u8, u8, u16) = (2, 1, 183);

/// What an ELF header says a file is for: its class, its byte order and its machine.
fn elf(binary: &Path) -> (u8, u8, u16) {
    let mut header = [0; 20];
    File::open(binary).expect("the binary is there").read_exact(&mut header).expect("the file has a header");
    assert_eq!(header[..4], *b"\x7fELF", "{}", binary.display());
    (header[4], header[5], u16::from_le_bytes([header[18], header[19]]))
}

#[test]
fn every_function_builds_for_aarch64() {
    let Some((_, binaries)) = built() else { return };
    assert_eq!(binaries.len(), NAMES.len());
    for binary in binaries.values() {
        assert_eq!(elf(binary), AARCH64, "{}", binary.display());
    }
}

#[tokio::test]
async fn a_function_keeps_the_promise_of_an_event_file_on_aarch64() {
    let Some((toolchain, binaries)) = built() else { return };
    let binary = &binaries["payment-approved"];
    assert_eq!(elf(binary), AARCH64, "the program below runs nothing but this binary");
    let program = toolchain.program(binary);
    let file = scenario::events_folder().join("payment-approved/single.json");
    let file = scenario::load(file).expect("the file is valid");
    let stack = Stack::start().await.expect("the stack starts");
    let programs = BTreeMap::from([(file.function.clone(), program)]);
    let replay = Replay::new(stack.clone(), &programs).expect("the program is there");

    let report = replay.file(&file).await;

    assert!(report.is_as_promised(), "{report:#?}");
    let [record] = &report.records[..] else { panic!("the file holds one record: {report:#?}") };
    assert_eq!(record.outcome, "success");
    assert_eq!((record.reservation, record.seats), (Some(Status::Confirmed), Some(SeatState::Sold)));
    assert_eq!(stack.inventory.oversold(), [""; 0], "the inventory's audit");
}
