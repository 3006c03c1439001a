//! A deployment package with one file, in the form that `CreateFunction` takes. The file is stored and not compressed, and
//! so small that no crate for archives is worth its compile time.

/// The zip of an executable file, in base64.
pub(crate) fn package(name: &str, content: &[u8]) -> String {
    let (length, name_length) = (content.len() as u32, name.len() as u16);
    // Version 2.0, no flags, stored, midnight of 1 January 1980.
    let mut facts = [20_u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
    facts.extend([checksum(content), length, length].map(u32::to_le_bytes).concat());
    facts.extend(name_length.to_le_bytes());
    facts.extend([0; 2]); // No extra field.

    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&facts);
    zip.extend(name.as_bytes());
    zip.extend(content);
    let directory = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x14\x03"); // Made on Unix, which is what makes the mode below one.
    zip.extend(&facts);
    zip.extend([0; 6]); // No comment, disk 0, no internal attributes.
    zip.extend((0o100_755_u32 << 16).to_le_bytes());
    zip.extend([0; 4]); // The file starts where the zip does.
    zip.extend(name.as_bytes());
    let directory_length = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend([directory_length, directory].map(u32::to_le_bytes).concat());
    zip.extend([0; 2]); // No comment.
    base64(&zip)
}

/// CRC-32 as zip has it.
fn checksum(content: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 };
    !content.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |sum, index| sum << 8 | three.get(index).map_or(0, |byte| *byte as usize));
        for index in 0..4 {
            let letter = LETTERS[number >> (18 - 6 * index) & 63];
            text.push(if index <= three.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[test]
fn known_values_are_right() {
    assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    assert_eq!(
        ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
        ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
    );
}
